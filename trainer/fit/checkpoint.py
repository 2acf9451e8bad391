"""From pictures to a checkpoint: features, the fit, thresholds, one file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.method import Method
from edge_agent.detectors.methods import lookup
from edge_agent.inference.image_size import chosen_side
from edge_agent.io.files import write_errors
from trainer.data.examples import Skipped
from trainer.fit.comparison import Comparison, compare
from trainer.fit.defaults import default_epochs
from trainer.fit.feature_cache import cache_bytes, cache_features
from trainer.fit.features import EncodeSettings
from trainer.fit.loop import Plan, Share, fit
from trainer.fit.outputs import measure
from trainer.fit.pictures import FitPictures, require_both
from trainer.fit.recipes import RECIPES
from trainer.io.processes import gathered, gathered_objects
from trainer.io.run_state import AGAIN


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What is to be fitted, and how.

    method: a key of RECIPES. class_name: what the pictures show. epochs, batch, image_size (side in pixels): None for the
    defaults, see defaults.py. seed: decides every random number. dtype: of the vision tower. memory_gb: features larger
    than so many 1e9 bytes go to files beside the checkpoint until it is written. save_every_s: seconds between two saved
    states.
    """

    method: str
    class_name: str = "object"
    epochs: int | None = None
    batch: int | None = None
    image_size: int | None = None
    seed: int = 0
    dtype: torch.dtype = torch.float32
    memory_gb: float = 4.0
    save_every_s: float = 20.0


@dataclass(frozen=True, slots=True)
class FitProgress:
    """What is called while a fit runs.

    pictures(n): n more pictures are encoded. step(number, total, losses): a step is done, numbered from 1, of `total`; its
    losses by name.
    """

    pictures: Callable[[int], object] = lambda n: None
    step: Callable[[int, int, Mapping[str, float]], object] = lambda step, total, losses: None


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a fit did: numbers of pictures and of steps in all.

    skipped: by all processes, each picture once. figures: on the very pictures that were fitted on, in percent. comparison: with
    what was there before, on pictures kept apart; None where nothing was there or none were. written: whether the checkpoint is.
    """

    pictures: int
    steps: int
    skipped: Sequence[Skipped]
    figures: dict[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None
    written: bool = True


def fit_checkpoint(
    request: FitRequest,
    backbone: Backbone,
    pictures: FitPictures,
    out: Path,
    progress: FitProgress | None = None,
    *,
    reference: Checkpoint | None = None,
    force: bool = False,
) -> FitResult:
    """Fit a method and write its checkpoint, unless it is worse than what was there. Killed at any moment, the same call resumes.

    Args:
        request: what to fit.
        backbone: to fit it on; it is not changed.
        pictures: of this process; under torchrun all processes fit together and the first one writes.
        out: the checkpoint's file.
        progress: called on the way; default nothing.
        reference: what was there before, to compare with on `pictures.check`; default None, nothing is compared.
        force: write it even if it is worse. Without, the state of the fit is kept then, so that the same call with it is quick.

    Raises EdgeAgentError when a kind of picture is missing, the loss is not finite, or nothing can be written.
    """
    progress = progress or FitProgress()
    recipe = RECIPES[lookup(request.method).name]
    side = chosen_side(backbone, request.image_size)
    torch.manual_seed(request.seed)
    method = lookup(request.method).fresh(backbone, request.class_name)
    settings = EncodeSettings.of(method, side, side, request.dtype)
    asked = {**asdict(request), "dtype": str(request.dtype), "memory_gb": None, "save_every_s": None}
    key = json.dumps([asked, backbone.name, backbone.sha256, pictures.source, pictures.key, side], sort_keys=True)
    work = state_folder(out)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    on_disk = cache_bytes(backbone, pictures.count, settings) > request.memory_gb * 1e9
    skipped: list[Skipped] = []
    features = cache_features(
        backbone,
        pictures.read(skipped),
        pictures.count,
        settings,
        folder=work / f"features{rank}" if on_disk else None,
        key=f"{key} {rank} of {world}",
        skipped=skipped,
        report=progress.pictures,
    )
    require_both(gathered(torch.from_numpy(features.bad)), pictures.source)
    share = _share(len(features))
    batch = request.batch or recipe.batch
    epochs = request.epochs or default_epochs(recipe.epochs, batch, share.total)
    plan = Plan(recipe, epochs, batch, request.seed, request.save_every_s)
    steps = plan.epochs * -(-share.total // plan.batch)
    fit(
        method,
        features,
        plan,
        state=work / "state.pt",
        key=key,
        share=share,
        report=lambda step, losses: progress.step(step, steps, losses),
    )
    recipe.choose_settings(method, features)
    figures, thresholds = measure(method, features)
    comparison = None
    if reference is not None and pictures.check is not None:
        comparison = compare(reference, method, side, request.dtype, request.class_name, pictures.check, skipped)
    written = force or comparison is None or not comparison.is_worse
    if rank == 0 and written:
        header = header_of(method, plan, side, request.class_name, pictures.source, figures) | thresholds
        with write_errors(out, AGAIN):
            save_checkpoint(Checkpoint(header, method.tensors()), out)
    if dist.is_initialized():
        dist.barrier()
    if rank == 0 and written:
        shutil.rmtree(work, ignore_errors=True)
    return FitResult(share.total, steps, _all_skipped(skipped), figures, comparison, written)


def state_folder(out: Path) -> Path:
    """Return the folder beside a checkpoint in which a fit keeps its state until the checkpoint is written."""
    return out.with_name(f".{out.name}.fit")


def header_of(
    method: Method, plan: Plan, image_size: int, class_name: str, source: str, figures: Mapping[str, float]
) -> dict[str, object]:
    """Return the header of a fitted method's checkpoint, without its thresholds.

    Args:
        method: the fitted method.
        plan: how it was fitted.
        image_size: side in pixels at which pictures were read.
        class_name: what they show.
        source: names them for people.
        figures: on these pictures, in percent.
    """
    return {
        "method": method.name,
        "backbone": method.backbone.name,
        "backbone_sha256": method.backbone.sha256,
        "image_size": image_size,
        "class_name": class_name,
        "fitted_on": source,
        "hyper_parameters": {
            "epochs": plan.epochs,
            "batch": plan.batch,
            "seed": plan.seed,
            "rates": dict(plan.recipe.rates),
        },
        "metrics": dict(figures),
        **method.settings(),
    }


def _all_skipped(part: list[Skipped]) -> list[Skipped]:
    """Return what any process skipped: each picture once, by path."""
    every = {one.path: one for some in gathered_objects(part) for one in some}
    return sorted(every.values(), key=lambda one: one.path)


def _share(own: int) -> Share:
    """Return this process's part of the pictures. own: how many it has."""
    counts = gathered_objects(own)
    rank = dist.get_rank() if dist.is_initialized() else 0
    return Share(sum(counts[:rank]), sum(counts))
