"""Published prompts made into a checkpoint of ours.

Left out: files of methods that are not in LAYOUTS, and tensors of a file that inspecting does not need.
"""

from __future__ import annotations

from pathlib import Path

import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import PREFIX, fault_of
from edge_agent.backbones.families import catalog
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.method import Method
from edge_agent.detectors.systems import DATASETS
from edge_agent.errors import CheckpointError
from edge_agent.importing.layouts import LAYOUTS
from edge_agent.importing.published import PublishedPrompts, checked_tensors, described, read_content
from edge_agent.inference.image_size import chosen_side
from edge_agent.io.files import write_errors

THRESHOLD = 0.5  # of the score and of the map: no better one has been measured
ADVICE = (
    f"thresholds are {THRESHOLD} for scores and maps, not measured: calibrate with good pictures of your own part"
    " (`trainer calibrate`), or set threshold and map_threshold in the config"
)


def read_published(path: Path, method: str) -> PublishedPrompts:
    """Read the prompts of a method (a key of LAYOUTS) from its authors' file.

    Raises CheckpointError when the file is not that method's, is damaged, or asks for code to be run.
    """
    content, sha256 = read_content(path)
    fits = [name for name, layout in LAYOUTS.items() if layout.recognise(content)]
    found = method if method in fits else next(iter(fits), None)
    if found is None:
        titles = ", ".join(layout.title for layout in LAYOUTS.values())
        raise CheckpointError(
            f"{path}: holds {described(content)}, not prompts as the authors of {titles} publish them: take their file"
        )
    if found != method:
        raise CheckpointError(
            f"{path}: holds prompts of {LAYOUTS[found].title}, not of {LAYOUTS[method].title}: say --method {found}"
        )
    parts = {name: checked_tensors(path, name, part) for name, part in LAYOUTS[method].parts(content).items()}
    return PublishedPrompts(path, sha256, method, parts)


def import_checkpoint(
    published: PublishedPrompts,
    backbone: Backbone,
    out: Path,
    *,
    trained_on: str | None = None,
    class_name: str = "object",
    image_size: int | None = None,
) -> None:
    """Write published prompts as a checkpoint, whole or not at all.

    Args:
        published: what read_published returned.
        backbone: the one to inspect with.
        out: the checkpoint's file.
        trained_on: what the authors trained on, a key of DATASETS; methods whose settings depend on it need it.
        class_name: what the user's pictures show; default "object".
        image_size: side in pixels at which pictures are read; default as for a fit.

    Raises EdgeAgentError when the prompts do not fit the backbone, trained_on is needed and missing, or `out` cannot be
    written.
    """
    side = chosen_side(backbone, image_size)
    method = _method(published, backbone, trained_on, class_name)
    with torch.no_grad():
        tensors = method.tensors()
    if broken := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{published.path}: {broken[0]} is not finite: the file is damaged; download it again")
    source = f"{DATASETS[trained_on]}, by its authors" if trained_on else "what its authors chose"
    header = {
        "method": method.name,
        "backbone": backbone.name,
        "backbone_sha256": backbone.sha256,
        "image_size": side,
        "class_name": class_name,
        "fitted_on": source,
        "imported_from": {"file": published.path.name, "sha256": published.sha256},
        "threshold": THRESHOLD,
        "map_threshold": THRESHOLD,
        "advice": ADVICE,
        **method.settings(),
    }
    with write_errors(out):
        save_checkpoint(Checkpoint(header, tensors), out)


def backbones_of_width(method: str, width: int) -> list[str]:
    """Name the backbones whose text towers take tokens of `width` numbers, the one that the authors used first.

    They are looked up in lists of models; whether their weights are on this machine is not.
    """
    from open_clip import get_model_config, list_openai_models

    layout = LAYOUTS[method]
    models = [model for model in list_openai_models() if not model.endswith("-quickgelu")]
    configs = {f"{PREFIX}{model}/openai": get_model_config(model) for model in models}
    names = [name for name, one in configs.items() if one and not fault_of(one) and one["text_cfg"]["width"] == width]
    if layout.fits_tips:
        names = [name for name, one in catalog().items() if one.width == width] + names
    return sorted(names, key=lambda name: name != layout.backbone)


def _method(published: PublishedPrompts, backbone: Backbone, trained_on: str | None, class_name: str) -> Method:
    _require_width(published, backbone)
    try:
        return LAYOUTS[published.method].build(backbone, published.parts, class_name, trained_on)
    except CheckpointError as error:
        raise CheckpointError(f"{published.path}: {error}") from None


def _require_width(published: PublishedPrompts, backbone: Backbone) -> None:
    """Check the width of the learned tokens; where there are none, `build` says which tensors are missing."""
    part, name = LAYOUTS[published.method].tokens
    tokens = published.parts[part].get(name)
    if tokens is None or not tokens.ndim or tokens.shape[-1] == backbone.text_width:
        return
    width = tokens.shape[-1]
    names = backbones_of_width(published.method, width)
    remedy = f"they would fit {', '.join(names)}: say --backbone" if names else "no backbone known here takes those"
    raise CheckpointError(
        f"{published.path}: its prompts are tokens of {width} numbers, {backbone.name} takes {backbone.text_width}; {remedy}"
    )
