"""The list of detection methods by the names used in checkpoints, configs and command lines; importing it imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from edge_agent.backbones.backbone import Backbone
    from edge_agent.detectors.method import Method


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """One method of the list.

    name: as the class has it. load: imports the class, and torch with it. fitted: it inspects with what a checkpoint holds;
    the others need none. from_good_parts: its checkpoint is a bank of good parts, which `trainer station` makes, and no
    prompts that `trainer fit` fits.
    """

    name: str
    load: Callable[[], type[Method]]
    fitted: bool = True
    from_good_parts: bool = False


def _tipsomaly() -> type[Method]:
    from edge_agent.detectors.tipsomaly import Tipsomaly

    return Tipsomaly


def _vip2clip() -> type[Method]:
    from edge_agent.detectors.vip2clip import ViP2Clip

    return ViP2Clip


def _cops() -> type[Method]:
    from edge_agent.detectors.cops import Cops

    return Cops


def _plain() -> type[Method]:
    from edge_agent.detectors.plain import Plain

    return Plain


def _patchcore() -> type[Method]:
    from edge_agent.detectors.patchcore import PatchCore

    return PatchCore


def _winclip() -> type[Method]:
    from edge_agent.detectors.winclip import WinClip

    return WinClip


DEFAULT_METHOD = "tipsomaly"  # of the prompts that come with the embedded model

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(DEFAULT_METHOD, _tipsomaly),
        MethodEntry("vip2clip", _vip2clip),
        MethodEntry("cops", _cops),
        MethodEntry("patchcore", _patchcore, from_good_parts=True),
        MethodEntry("clip", _plain, fitted=False),
        MethodEntry("winclip", _winclip, fitted=False),
    )
}


def fitted_methods() -> list[str]:
    """Names of the methods that need a checkpoint of fitted prompts."""
    return [entry.name for entry in METHODS.values() if entry.fitted and not entry.from_good_parts]


def checkpoint_methods() -> list[str]:
    """Names of the methods that need a checkpoint: of fitted prompts, or of a bank of good parts."""
    return [entry.name for entry in METHODS.values() if entry.fitted]


def few_shot_methods() -> list[str]:
    """Names of the methods that compare with good parts."""
    return [entry.name for entry in METHODS.values() if entry.from_good_parts]


def unfitted_methods() -> list[str]:
    """Names of the methods that need no checkpoint."""
    return [entry.name for entry in METHODS.values() if not entry.fitted]


def lookup(name: str) -> type[Method]:
    """Import and return the method of that name. Raises CheckpointError with the names there are."""
    if name not in METHODS:
        raise CheckpointError(f"{name!r} is no method of this version, which knows {', '.join(METHODS)}")
    return METHODS[name].load()


def restore(backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str) -> Method:
    """Build the fitted method of a checkpoint on its backbone.

    Args:
        backbone: the one that the checkpoint was fitted for.
        header: of the checkpoint; `method` names the method.
        tensors: of the checkpoint.
        class_name: what is in the pictures, in a word or two.

    Raises CheckpointError for an unknown method, and KeyError and the like for a damaged checkpoint.
    """
    return lookup(header["method"]).restored(backbone, header, tensors, class_name)
