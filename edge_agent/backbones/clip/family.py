"""The family of CLIP backbones; names.py says how one is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.clip.names import EXAMPLE, LICENCE, PREFIX, SAFETENSORS, parse_clip, published
from edge_agent.backbones.family import Family, Row
from edge_agent.backbones.weights.published import Published
from edge_agent.backbones.weights.store import read_pins
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.clip.model import Clip


class ClipFamily(Family):
    """Every model of open_clip with CLIP's own towers: too many to list, so that only fetched ones are listed."""

    form: ClassVar[str | None] = f"{PREFIX}MODEL/TAG"
    about: ClassVar[str] = (
        f"CLIP: any ViT that open_clip knows, as {PREFIX}MODEL/TAG, such as {EXAMPLE}: fetch it by that name, or take\n"
        f"what open_clip or huggingface_hub have in their caches; {PREFIX}MODEL@FILE and {PREFIX}MODEL/TAG@FILE read a file."
    )

    def knows(self, name: str) -> bool:
        """See Family."""
        return name.startswith(PREFIX)

    def resolve(self, name: str, folder: Path) -> str:
        """See Family."""
        return str(parse_clip(name, folder))

    def published(self, name: str) -> Published:
        """See Family."""
        return published(parse_clip(name))

    def rows(self, folder: Path) -> Iterator[Row]:
        """See Family."""
        for path in sorted(folder.glob(f"{PREFIX[:-1]}/*/*/{SAFETENSORS}")):
            yield Row(
                name=f"{PREFIX}{path.parent.parent.name}/{path.parent.name}",
                image_size=None,
                width=None,
                millions=None,
                bytes=path.stat().st_size,
                licence=LICENCE,
                folder=path.parent,
            )

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """See Family."""
        if "@" in name:
            return None
        pins = (read_pins(folder / name.replace(":", "/")).get(SAFETENSORS) for folder in folders)
        return next((pin for pin in pins if pin), None)

    def only_cached(self, name: str, folders: Sequence[Path]) -> Path | None:
        """See Family."""
        wanted = parse_clip(name)
        if wanted.path is not None:
            return None
        from edge_agent.backbones.clip.weights import find_weights

        try:
            found = find_weights(wanted, folders)
        except CheckpointError:
            return None
        return None if any(folder in found.parents for folder in folders) else found

    def load(self, name: str, folders: Sequence[Path]) -> Clip:
        """See Family."""
        wanted = parse_clip(
            name
        )  # before the next import, so that a missing open_clip is reported with what to install
        from edge_agent.backbones.clip.weights import load_clip

        return load_clip(wanted, folders)

    def random(self, name: str) -> Clip:
        """See Family."""
        wanted = parse_clip(name)
        from edge_agent.backbones.clip.weights import random_clip

        return random_clip(wanted)
