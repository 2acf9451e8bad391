"""Published systems: a backbone with the prompts that a method's authors publish for it, at a pinned commit and pinned digests.

Importing this imports no torch. Left out: how files get here (importing/fetch.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.errors import CheckpointError

DATASETS: Mapping[str, str] = {"mvtec": "MVTec AD", "visa": "VisA"}
"""The public data sets that authors train the prompts on that they publish."""
DEFAULT_DATASET: Final = "mvtec"
"""MVTec AD has textures and objects, VisA objects alone; the papers measure prompts of it on every other set."""


@dataclass(frozen=True, slots=True)
class System:
    """What a paper measures: one method on one backbone, with published prompts.

    method: its name in METHODS, which is the system's name too. backbone: as families.py knows it. prompts: what a fetch
    brings beside the backbone, one file for each of DATASETS, in their order. besides: further backbones that the method needs.
    """

    method: str
    backbone: str
    prompts: Published
    besides: tuple[str, ...] = ()

    def file(self, trained_on: str) -> RemoteFile:
        """Return the authors' file. trained_on: a key of DATASETS."""
        return self.prompts.files[list(DATASETS).index(trained_on)]

    def checkpoint(self, folder: Path, trained_on: str) -> Path:
        """Return where the checkpoint made of the authors' file lies.

        folder: of all models. trained_on: a key of DATASETS.
        """
        return folder / self.prompts.folder / f"{self.method}-{trained_on}.safetensors"


def _prompts(method: str, owner: str, files: Mapping[str, tuple[str, str, str]]) -> Published:
    """Describe prompts that lie in a repository on GitHub.

    Args:
        method: the method's name.
        owner: OWNER/REPOSITORY.
        files: by key of DATASETS: commit (40 hex digits), path in the repository, SHA-256 (hex).
    """
    return Published(
        name=method,
        holder=f"github.com/{owner}",
        licence="MIT",
        files=tuple(
            RemoteFile(
                f"{method}-{trained_on}.pth",
                f"https://raw.githubusercontent.com/{owner}/{commit}/{path}",
                path=path,
                sha256=sha256,
            )
            for trained_on, (commit, path, sha256) in files.items()
        ),
    )


# The first system of a backbone is the one whose prompts are taken where a config names the backbone alone.
SYSTEMS: dict[str, System] = {
    one.method: one
    for one in (
        System(
            "tipsomaly",
            "tips-l14",
            _prompts(
                "tipsomaly",
                "AlirezaSalehy/Tipsomaly",
                {
                    "mvtec": (
                        "7eb43a7a5c1863166ea65efa7749e8c3b8d21ed6",
                        "workspaces/trained_on_mvtec_default/vegan-arkansas/checkpoints/learnable_params_2.pth",
                        "15546df6300fe8d9e272ee6cba5844f78bf2e1579d69eaf3fdf4f4c81b7a5fbb",
                    ),
                    "visa": (
                        "7eb43a7a5c1863166ea65efa7749e8c3b8d21ed6",
                        "workspaces/trained_on_visa_default/vegan-arkansas/checkpoints/learnable_params_2.pth",
                        "9758adc7e1303ffe991c0ab0052e26067d120b8036a864c9fd9aabc8212ac055",
                    ),
                },
            ),
        ),
        System(
            "crane",
            EXAMPLE,
            _prompts(
                "crane",
                "AlirezaSalehy/Crane",
                {
                    "mvtec": (
                        "36eafb15d7a01c5b3a74d4efa09b8e267734f49c",
                        "checkpoints/trained_on_mvtec_crane/epoch_5.pth",
                        "dc9bf1584c8abd8744f39e9607fdea8a04c8d30aa147de595d22bf444488e4c8",
                    ),
                    "visa": (
                        "56bb4f15bf90952f0f0a711daaff6382c8e5040a",
                        "checkpoints/trained_on_visa_crane/epoch_5.pth",
                        "66d070e3b72b61704495bdadd0f8c4979b62a23ca7211cfe08bd08ec7c0ab831",
                    ),
                },
            ),
        ),
        System(
            "craneplus",
            EXAMPLE,
            _prompts(
                "craneplus",
                "AlirezaSalehy/Crane",
                {
                    "mvtec": (
                        "36eafb15d7a01c5b3a74d4efa09b8e267734f49c",
                        "checkpoints/trained_on_mvtec_cranep/epoch_5.pth",
                        "9163f13a9c0a75ac63de16239b850cf70d366b5591b083bea2c0c41e76beed53",
                    ),
                    "visa": (
                        "36eafb15d7a01c5b3a74d4efa09b8e267734f49c",
                        "checkpoints/trained_on_visa_cranep/epoch_5.pth",
                        "732c7d1b76745950c56b0f9846f46f297619dcbb1db69a61e7b8fa5609ac10ab",
                    ),
                },
            ),
            besides=("dinov2-b14-reg4",),
        ),
    )
}


def default_system(backbone: str) -> System | None:
    """Return the system whose prompts a backbone is used with where nothing else is named; None where none is published."""
    return next((one for one in SYSTEMS.values() if one.backbone == backbone), None)


def find_prompts(backbone: str, trained_on: str, folders: Sequence[Path]) -> Path | None:
    """Return the fetched checkpoint of a backbone's published prompts; None where there is none.

    Args:
        backbone: its name.
        trained_on: a key of DATASETS.
        folders: where fetched models lie, the first one first.
    """
    system = default_system(backbone)
    if system is None:
        return None
    return next((path for folder in folders if (path := system.checkpoint(folder, trained_on)).is_file()), None)


def require_prompts(backbone: str, trained_on: str, folders: Sequence[Path]) -> Path:
    """Return what find_prompts does. Args: the same. Raises CheckpointError, with the remedy, where there is none."""
    found = find_prompts(backbone, trained_on, folders)
    if found is not None:
        return found
    raise CheckpointError(absence_of_prompts(backbone))


def absence_of_prompts(backbone: str) -> str:
    """Say that a backbone's prompts are not here, and what to do, for messages."""
    system = default_system(backbone)
    if system is None:
        return f"{backbone} comes without prompts: name a checkpoint that was fitted for it"
    return (
        f"{backbone}: the prompts that are published for it are not on this machine: run `edge-agent models fetch {system.method}`,"
        " with sudo if a service is to find them; or name a checkpoint"
    )
