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

    name: as the class has it. load: imports the class, and torch with it. title, paper, licence (of the authors' code), cost
    (against one pass of its backbone) and purpose: for a person, empty where nobody said. fitted: it inspects with what a
    checkpoint holds; the others need none. from_good_parts: its checkpoint is a bank of good parts, and no prompts that
    `trainer fit` fits. few_shot: it can be shown a few good parts besides; a checkpoint then holds their memory. on_clip: it
    needs a CLIP.
    """

    name: str
    load: Callable[[], type[Method]]
    title: str = ""
    paper: str = ""
    licence: str = ""
    cost: str = ""
    purpose: str = ""
    fitted: bool = True
    from_good_parts: bool = False
    few_shot: bool = False
    on_clip: bool = False


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


def _afclip() -> type[Method]:
    from edge_agent.detectors.clip.afclip import AfClip

    return AfClip


def _aprilgan() -> type[Method]:
    from edge_agent.detectors.clip.aprilgan import AprilGan

    return AprilGan


def _anomalyclip() -> type[Method]:
    from edge_agent.detectors.clip.anomalyclip import AnomalyClip

    return AnomalyClip


def _crane() -> type[Method]:
    from edge_agent.detectors.clip.crane import Crane

    return Crane


def _glocalclip() -> type[Method]:
    from edge_agent.detectors.clip.glocalclip import GlocalClip

    return GlocalClip


def _faprompt() -> type[Method]:
    from edge_agent.detectors.clip.faprompt import FaPrompt

    return FaPrompt


def _vcpclip() -> type[Method]:
    from edge_agent.detectors.clip.vcpclip import VcpClip

    return VcpClip


def _bayespfl() -> type[Method]:
    from edge_agent.detectors.clip.bayespfl import BayesPfl

    return BayesPfl


def _adaclip() -> type[Method]:
    from edge_agent.detectors.clip.adaclip import AdaClip

    return AdaClip


def _craneplus() -> type[Method]:
    from edge_agent.detectors.clip.craneplus import CranePlus

    return CranePlus


DEFAULT_METHOD = "tipsomaly"  # of the prompts that come with the embedded model

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(
            DEFAULT_METHOD,
            _tipsomaly,
            "Tipsomaly",
            "arXiv 2602.03594",
            "MIT",
            "1",
            "no good parts at hand; the default",
        ),
        MethodEntry(
            "vip2clip",
            _vip2clip,
            "ViP2-CLIP",
            "arXiv 2505.17692",
            "MIT",
            "1.1 and 2 prompts",
            "no good parts; large CLIP",
        ),
        MethodEntry(
            "cops",
            _cops,
            "CoPS",
            "arXiv 2508.03447",
            "MIT",
            "1.3 and 20 prompts",
            "no good parts; a GPU with time to spare",
        ),
        MethodEntry(
            "patchcore",
            _patchcore,
            "PatchCore",
            "arXiv 2106.08265",
            "own code",
            "1 and the search of the bank",
            "good parts of one kind; the fastest on a CPU",
            from_good_parts=True,
        ),
        MethodEntry("clip", _plain, "plain CLIP", "arXiv 2103.00020", "own code", "1", "a first look", fitted=False),
        MethodEntry(
            "winclip",
            _winclip,
            "WinCLIP",
            "arXiv 2303.14814",
            "own code",
            "14",
            "no fitting at all, with or without a few good parts; slow",
            fitted=False,
            few_shot=True,
        ),
        MethodEntry(
            "afclip",
            _afclip,
            "AF-CLIP",
            "arXiv 2507.19949",
            "none: clean-room, its weights are not redistributed",
            "1.1, with good parts and their search",
            "one to four good parts of each of many kinds",
            few_shot=True,
            on_clip=True,
        ),
        MethodEntry(
            "aprilgan",
            _aprilgan,
            "APRIL-GAN",
            "arXiv 2305.17382",
            "MIT",
            "1, with good parts and their search",
            "one to four good parts, with maps that text has a say in",
            few_shot=True,
            on_clip=True,
        ),
        MethodEntry(
            "crane",
            _crane,
            "Crane",
            "arXiv 2504.11055",
            "MIT, published prompts of 577 kB",
            "1.3",
            "no good parts and no fitting of your own: its prompts can be imported",
            on_clip=True,
        ),
        MethodEntry(
            "craneplus",
            _craneplus,
            "Crane+",
            "arXiv 2504.11055",
            "MIT, published prompts of 577 kB",
            "1.6, with DINOv2",
            "as Crane, with sharper maps; a second backbone",
            on_clip=True,
        ),
        MethodEntry(
            "anomalyclip",
            _anomalyclip,
            "AnomalyCLIP",
            "arXiv 2310.18961",
            "MIT",
            "1.2",
            "no good parts; what all papers compare with",
            on_clip=True,
        ),
        MethodEntry(
            "vcpclip",
            _vcpclip,
            "VCP-CLIP",
            "arXiv 2407.12276",
            "MIT",
            "1.1 and 2 prompts",
            "no good parts; where a defect is matters more than whether there is one",
            on_clip=True,
        ),
        MethodEntry(
            "bayespfl",
            _bayespfl,
            "Bayes-PFL",
            "arXiv 2503.10080",
            "MIT",
            "1.2 and 60 prompts",
            "no good parts; a GPU with much time to spare: prompts of every picture, averaged",
            on_clip=True,
        ),
        MethodEntry(
            "adaclip",
            _adaclip,
            "AdaCLIP",
            "arXiv 2407.15795",
            "MIT",
            "2.1 and 48 sentences",
            "no good parts; to compare with its paper: slower than ViP2-CLIP, and weaker on most sets",
            on_clip=True,
        ),
        MethodEntry(
            "glocalclip",
            _glocalclip,
            "GlocalCLIP",
            "arXiv 2411.06071",
            "MIT",
            "1.2",
            "as AnomalyCLIP, with a pair of prompts for maps alone",
            on_clip=True,
        ),
        MethodEntry(
            "faprompt",
            _faprompt,
            "FAPrompt",
            "ICCV 2025",
            "MIT",
            "1.2 and 10 prompts",
            "as AnomalyCLIP, with kinds of anomaly; slower",
            on_clip=True,
        ),
    )
}


def fitted_methods() -> list[str]:
    """Names of the methods that need a checkpoint of fitted prompts."""
    return [entry.name for entry in METHODS.values() if entry.fitted and not entry.from_good_parts]


def checkpoint_methods() -> list[str]:
    """Names of the methods that a checkpoint may be of: fitted prompts, a bank of good parts, or a memory of a few."""
    return [entry.name for entry in METHODS.values() if entry.fitted or entry.few_shot]


def few_shot_methods() -> list[str]:
    """Names of the methods that compare with good parts, or can."""
    return [entry.name for entry in METHODS.values() if entry.from_good_parts or entry.few_shot]


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
