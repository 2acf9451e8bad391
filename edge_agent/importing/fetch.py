"""Fetches published systems: the backbone, the authors' prompts for it, and the checkpoints made of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.backbones.families import family_of
from edge_agent.backbones.weights.digests import measure
from edge_agent.backbones.weights.download import RetryPolicy
from edge_agent.backbones.weights.fetch import READABLE, Progress, fetch, fetch_published, locked
from edge_agent.backbones.weights.store import intact, pin
from edge_agent.detectors.header import read_header
from edge_agent.detectors.systems import DATASETS, SYSTEMS, System
from edge_agent.errors import CheckpointError


def fetch_files(
    name: str,
    *,
    into: Path,
    source: str | Path | None = None,
    progress: Progress = lambda file, done, total: None,
    policy: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
) -> Path:
    """Fetch the files of a system or of a backbone, and make nothing of them. Needs no torch.

    Args:
        name: of SYSTEMS, or of a backbone.
        into, source, progress, policy: as for fetch().

    Returns the folder of the last of them. Raises CheckpointError, as fetch() does.
    """
    system = SYSTEMS.get(name)
    folder = fetch(system.backbone if system else name, into=into, source=source, progress=progress, policy=policy)
    if system:
        for other in system.besides:
            fetch(other, into=into, source=source, progress=progress, policy=policy)
        folder = fetch_published(system.prompts, into=into, source=source, progress=progress, policy=policy)
    return folder


def make_checkpoints(system: System, folder: Path) -> list[Path]:
    """Make the checkpoints of a system's fetched prompts, unless they are there; whole or not at all.

    folder: of all models. Returns the checkpoints, in the order of DATASETS. Raises EdgeAgentError.
    """
    made = {trained_on: system.checkpoint(folder, trained_on) for trained_on in DATASETS}
    digest = family_of(system.backbone).digest(system.backbone, [folder])
    absent = [one for one, path in made.items() if not _is_made(path, system, one, digest)]
    if absent:
        from edge_agent.importing.checkpoint import import_checkpoint, read_published

        own = folder / system.prompts.folder
        backbone = family_of(system.backbone).load(system.backbone, [folder])
        with locked(own):
            for one in absent:
                published = read_published(own / system.file(one).name, system.method)
                import_checkpoint(published, backbone, made[one], trained_on=one)
                made[one].chmod(READABLE)
                pin(own, made[one].name, measure(made[one])["sha256"])
    return list(made.values())


def _is_made(path: Path, system: System, trained_on: str, backbone_sha256: str | None) -> bool:
    """Return whether a checkpoint is there, as it was made, of these very prompts and for this very backbone."""
    if not intact(path.parent, path.name):
        return False
    try:
        header: Mapping[str, Any] = read_header(path)
    except CheckpointError:
        return False
    source = header.get("imported_from", {}).get("sha256")
    return (header["backbone_sha256"], source) == (backbone_sha256, system.file(trained_on).sha256)
