"""What a family of backbones is: how its members are named, listed, fetched and loaded. Importing one imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.weights.published import Published
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Row:
    """One backbone in the list of `edge-agent models`.

    bytes: on disk if it is here, else about what a fetch brings. folder: None when it is not here. image_size and width as in
    Published; millions: parameters of both towers.
    """

    name: str
    image_size: int | None
    width: int | None
    millions: float | None
    bytes: int | None
    licence: str
    folder: Path | None


class Family(ABC):
    """One kind of backbone, with all that the agent needs of it; families.py lists the families.

    catalog: backbones that are known by name. form: the pattern of its other names, for help texts; None where it has no others.
    about: describes the names that `edge-agent models` cannot list, printed below its list.
    """

    catalog: ClassVar[Mapping[str, Published]] = MappingProxyType({})
    form: ClassVar[str | None] = None
    about: ClassVar[str] = ""

    def knows(self, name: str) -> bool:
        """Whether a backbone's name is of this family. Reads no weights."""
        return name in self.catalog

    def resolve(self, name: str, folder: Path) -> str:
        """Return the name in full, as a config keeps it; `folder` is what a relative path in it starts from.

        Raises CheckpointError for a name of this family that means nothing.
        """
        return name

    def patch(self, name: str) -> int | None:
        """Return the side of a patch in pixels; None where only the files give it."""
        known = self.catalog.get(name)
        return known.patch if known else None

    def checkpoint(self, name: str) -> Path | None:
        """Return the checkpoint of fitted prompts that comes with the backbone, if one does."""
        return None

    def published(self, name: str) -> Published:
        """Return what a fetch brings. Raises CheckpointError where there is nothing to fetch."""
        return self.catalog[name]

    def rows(self, folder: Path) -> Iterator[Row]:
        """Yield a row for every backbone of the catalog, and for others of the family in `folder`. Reads no weights."""
        for known in self.catalog.values():
            here = known.shipped if known.shipped else folder / known.folder
            size = self.installed_bytes(here)
            yield Row(
                name=known.name,
                image_size=known.image_size,
                width=known.width,
                millions=known.millions,
                bytes=known.about_bytes if size is None else size,
                licence=f"{known.holder}, {known.licence}",
                folder=None if size is None else here,
            )

    def installed_bytes(self, folder: Path) -> int | None:
        """Return the bytes of a backbone's files if all of them are in `folder`, else None."""
        return None

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """Return Backbone.sha256 as far as the pins of its files give it; None where that is not known. Reads no weights.

        name: of this family. folders: where fetched backbones lie, the first one first.
        """
        return None

    def is_absent(self, name: str, folders: Sequence[Path]) -> bool:
        """Return whether the backbone has to be fetched and is in none of the folders, as far as names and sizes tell."""
        known = self.catalog.get(name)
        if known is None or known.shipped:
            return False
        return all(self.installed_bytes(folder / known.folder) is None for folder in folders)

    def only_cached(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Return the file that the backbone is read from where that is in a cache of this user, which no service reads; else None.

        name: of this family. folders: where fetched backbones lie; one that is there is taken first.
        """
        return None

    @abstractmethod
    def load(self, name: str, folders: Sequence[Path]) -> Backbone:
        """Load a backbone: fp32, frozen, on the CPU, never from the network.

        name: of this family. folders: where fetched backbones lie, the first one first. Raises CheckpointError, with the remedy.
        """

    def random(self, name: str) -> Backbone:
        """Build the backbone with random weights from torch's global generator, for timing only; fp32, on the CPU.

        Raises CheckpointError where its shape is not known without its files.
        """
        raise CheckpointError(f"{name}: no shape is known to make random weights of; fetch it, or name its files")
