"""From labelled pictures, or good ones alone, to a checkpoint: features, the fit, thresholds, one file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.embedded import EMBEDDED
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.method import Method
from edge_agent.detectors.methods import lookup
from edge_agent.detectors.tipsomaly import (
    CLASS_TOKEN,
    CONSISTENCY,
    LEAST,
    NO_CONTRAST,
    PUBLISHED,
    Evidence,
    Tipsomaly,
    picture_score,
    with_consistency,
)
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.image_size import whole_patches
from edge_agent.kernels import scoring
from trainer.data.examples import Example, Skipped, good_pictures, read_examples, readable
from trainer.data.painted_pictures import painted_pictures
from trainer.evaluate.metrics import auroc, balanced_threshold, best_f1_threshold
from trainer.fit.features import Batch, Features, Labelled, View, bytes_of, keep
from trainer.fit.loop import Plan, Share, fit
from trainer.fit.recipes import RECIPES
from trainer.io.files import written_or_told
from trainer.io.prefetch import in_order
from trainer.io.run_state import AGAIN

PUBLISHED_SIDE = 518  # pixels, in all three papers
PUBLISHED_PICTURES = 1725  # of MVTec AD's test split, which they fit on
EVIDENCES = (PUBLISHED, Evidence((0.02,), odds=True), Evidence((0.02, 0.2, 1.0), odds=True))  # to choose among
SELF_WEIGHT = 0.5  # of a patch's unlikeness to its own picture's others, beside what the words say of it
CONTRAST = (0.2, 2.0)  # share and temperature of sharpened, where a backbone looks at contrast
MAP_SIDE = 56  # pixels at which thresholds of maps are chosen


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be fitted. None: as published (see default_epochs, default_side).

    memory_gb: 1e9 bytes of features that may lie in memory; more go to files beside the checkpoint until it is done.
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
class Pictures:
    """What is fitted on. read: yields this process's share, `count` at most, and notes what it skips.

    source: names them for people. key: changes when they do, as a fit resumes only with the same.
    """

    read: Callable[[list[Skipped]], Iterable[Labelled]]
    count: int
    source: str
    key: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told what: pictures(n) as n more are encoded; step(number from 1, steps in all, losses by name)."""

    pictures: Callable[[int], object] = lambda n: None
    step: Callable[[int, int, Mapping[str, float]], object] = lambda step, total, losses: None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it. steps: in all. skipped: by all processes, each picture once.

    figures: on the very pictures it was fitted on, in percent.
    """

    pictures: int
    steps: int
    skipped: Sequence[Skipped]
    figures: dict[str, float] = field(default_factory=dict)


def default_side(backbone: Backbone) -> int:
    """Side in pixels that pictures are read at: the papers' 518, or what is nearest with whole patches; the embedded model's own."""
    if backbone.name == EMBEDDED:
        return backbone.image_size
    return whole_patches(PUBLISHED_SIDE, backbone.patch)


def chosen_side(backbone: Backbone, image_size: int | None) -> int:
    """The side in pixels that was asked for, or the default. Raises EdgeAgentError when it is not whole patches."""
    side = image_size or default_side(backbone)
    if side % backbone.patch:
        raise EdgeAgentError(
            f"image size {side} is no multiple of {backbone.name}'s patch of {backbone.patch} pixels:"
            f" take {whole_patches(side, backbone.patch)}"
        )
    return side


def default_epochs(published: int, batch: int, count: int) -> int:
    """As published, or more where there are fewer pictures, so that there are as many steps."""
    steps = published * PUBLISHED_PICTURES // batch
    return max(published, -(-steps // -(-count // batch)))


def from_data(folder: Path, part: tuple[int, int] = (0, 1)) -> Pictures:
    """Labelled pictures of a folder, see data.py; part: rank and how many processes share them."""
    examples = read_examples(folder)
    _require_both([one.defective for one in examples if one.mask or not one.defective], folder)
    own = examples[part_of(len(examples), part)]
    key = digest(path for one in examples for path in (one.picture, one.mask) if path)
    return Pictures(partial(labelled, own), len(own), f"{len(examples)} labelled pictures of {folder.name}", key)


def from_good(folder: Path, count: int, seed: int, part: tuple[int, int] = (0, 1)) -> Pictures:
    """`count` pictures made of a folder of good ones, about half of them with defects painted on."""
    good = good_pictures(folder)
    own = part_of(count, part)
    source = f"{count} pictures made of {len(good)} good ones of {folder.name}"

    def pictures(skipped: list[Skipped]) -> Iterator[Labelled]:
        for pixels, mask, _ in painted_pictures(good, range(own.start, own.stop), seed, skipped):
            yield Labelled(pixels, mask)

    return Pictures(pictures, own.stop - own.start, source, digest(good))


def fit_checkpoint(
    request: Request, backbone: Backbone, pictures: Pictures, out: Path, progress: Progress | None = None
) -> Fitted:
    """Fit and write `out`. Killed at any moment, the same call resumes. Raises EdgeAgentError."""
    progress = progress or Progress()
    recipe = RECIPES[lookup(request.method).name]
    side = chosen_side(backbone, request.image_size)
    torch.manual_seed(request.seed)
    method = lookup(request.method).fresh(backbone, request.class_name)
    view = View(side, side, tuple(method.layers), method.values, request.dtype)
    asked = {**asdict(request), "dtype": str(request.dtype), "memory_gb": None, "save_every_s": None}
    key = json.dumps([asked, backbone.name, backbone.sha256, pictures.source, pictures.key, side], sort_keys=True)
    work = out.with_name(f".{out.name}.fit")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    on_disk = bytes_of(backbone, pictures.count, view) > request.memory_gb * 1e9
    skipped: list[Skipped] = []
    features = keep(
        backbone,
        pictures.read(skipped),
        pictures.count,
        view,
        folder=work / f"features{rank}" if on_disk else None,
        key=f"{key} {rank} of {world}",
        skipped=skipped,
        report=progress.pictures,
    )
    _require_both(_of_all(torch.from_numpy(features.bad)), pictures.source)
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
    if isinstance(method, Tipsomaly):
        choose_score(method, features)
    figures, thresholds = measure(method, features)
    if rank == 0:
        header = header_of(method, plan, side, request.class_name, pictures.source, figures) | thresholds
        with written_or_told(out, AGAIN):
            save_checkpoint(Checkpoint(header, method.tensors()), out)
    if dist.is_initialized():
        dist.barrier()
    if rank == 0:
        shutil.rmtree(work, ignore_errors=True)
    return Fitted(share.total, steps, _all_skipped(skipped), figures)


def header_of(
    method: Method, plan: Plan, image_size: int, class_name: str, source: str, figures: Mapping[str, float]
) -> dict[str, object]:
    """What a checkpoint says of a fitted method, thresholds apart."""
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


def labelled(examples: Sequence[Example], skipped: list[Skipped], workers: int = 2) -> Iterator[Labelled]:
    """Examples with pixels and mask, decoded ahead by threads. What is broken, or has no mask though it is defective, is skipped."""

    def one(example: Example) -> list[Labelled]:
        found = []
        for _, pixels, mask in readable([example], skipped):
            if mask is None:
                skipped.append(Skipped(example.picture, "defective, but without a mask"))
            else:
                found.append(Labelled(pixels, mask))
        return found

    with ThreadPoolExecutor(workers) as pool:
        for found in in_order(pool, 4 * workers, one, examples):
            yield from found


def measure(method: Method, features: Features) -> tuple[dict[str, float], dict[str, object]]:
    """AUROC in percent on the pictures of `features`, and what of a checkpoint's header follows from them: thresholds."""
    pictures, maps, masks, bad = [], [], [], []
    for batch, found in _found(method, features):
        scores = method.scores(found)
        pictures.append(scores.picture.cpu())
        maps.append(scoring.heatmaps(scores.patches, MAP_SIDE, method.sigma, method.upsampling).cpu())
        masks.append(F.adaptive_avg_pool2d(batch.masks.unsqueeze(1), MAP_SIDE).squeeze(1).cpu() > 0.3)
        bad.append(batch.bad.cpu() > 0)
    defective, scored, truth, shown = (_of_all(torch.cat(parts)) for parts in (bad, pictures, masks, maps))
    truth, shown = truth.ravel(), shown.ravel()
    figures = {"image_auroc": auroc(defective, scored), "pixel_auroc": auroc(truth, shown)}
    thresholds: dict[str, object] = {
        "threshold": balanced_threshold(defective, scored),
        "map_threshold": best_f1_threshold(truth, shown),
    }
    return figures, thresholds


def consistency_of(method: Tipsomaly, features: Features) -> tuple[float, float]:
    """Slope and centre that put a patch's unlikeness beside its logit, both by their mean and spread over good pictures' patches."""
    logits, unlike = [], []
    for batch, found in _found(method, features):
        if found.unlike is None:
            return CONSISTENCY
        good = batch.bad == 0
        logits.append(torch.logit(found.patches[good], LEAST).cpu())
        unlike.append(found.unlike[good].cpu())
    text, own = (_of_all(torch.cat(parts)) for parts in (logits, unlike))
    return (SELF_WEIGHT * float(text.std() / max(own.std(), 1e-6)), float(own.mean()))


def choose_score(method: Tipsomaly, features: Features) -> None:
    """Set consistency and contrast, and the class token and local evidence by which the picture's score tells good from bad best.

    As published if all tell alike.
    """
    method.consistency = consistency_of(method, features)
    choices = [(token, evidence) for evidence in EVIDENCES for token in (CLASS_TOKEN, 1)]
    scores: list[list[Tensor]] = [[] for _ in choices]
    bad = []
    for batch, found in _found(method, features):
        bad.append(batch.bad.cpu() > 0)
        method.contrast = NO_CONTRAST if found.contrast is None else CONTRAST
        found = with_consistency(found, *method.consistency)
        for (token, evidence), one in zip(choices, scores, strict=True):
            one.append(picture_score(found, min(token, found.picture.shape[1]), None, evidence).cpu())
    defective = _of_all(torch.cat(bad))
    found_by = [auroc(defective, _of_all(torch.cat(one))) for one in scores]
    method.class_token, method.evidence = choices[found_by.index(max(found_by))]


def _require_both(defective: Sequence[bool] | np.ndarray, source: object) -> None:
    """Raises EdgeAgentError unless some pictures are defective and some are not."""
    if not any(defective):
        raise EdgeAgentError(
            f"{source}: has no defective pictures with masks, and fitting needs some: add them, or give the folder of good pictures"
            " with --good, and defects are painted onto them (if it was given so: a larger --count)"
        )
    if all(defective):
        raise EdgeAgentError(f"{source}: has no good pictures, and fitting needs some: add them, as CATEGORY/test/good")


def _all_skipped(part: list[Skipped]) -> list[Skipped]:
    """What any process skipped: each picture once, by path."""
    parts = [part]
    if dist.is_initialized():
        parts = [part] * dist.get_world_size()
        dist.all_gather_object(parts, part)
    return sorted({one.path: one for some in parts for one in some}.values(), key=lambda one: one.path)


def _of_all(part: Tensor) -> np.ndarray:
    """What this process has, with what all others have."""
    if not dist.is_initialized():
        return part.numpy()
    parts: list[Tensor] = [part] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return torch.cat(parts).numpy()


@torch.no_grad()
def _found(method: Method, features: Features, size: int = 16) -> Iterator[tuple[Batch, Any]]:
    method.eval()
    for chosen in torch.arange(len(features)).split(size):
        batch = features.batch(chosen)
        yield batch, method(batch.features)


def part_of(count: int, part: tuple[int, int]) -> slice:
    """The pictures of one process among `count`: a run of neighbours, so that all together have them in order."""
    rank, world = part
    return slice(count * rank // world, count * (rank + 1) // world)


def _share(own: int) -> Share:
    if not dist.is_initialized():
        return Share(0, own)
    counts: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(counts, own)
    return Share(sum(counts[: dist.get_rank()]), sum(counts))


def digest(paths: Iterable[Path]) -> str:
    """A name for a set of files as they are: path, size and time of change."""
    facts = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(paths)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
