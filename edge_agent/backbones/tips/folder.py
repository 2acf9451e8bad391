"""Backbones with TIPS's three files in a folder of the user's, named by its path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.family import Family
from edge_agent.backbones.tips.files import BackboneFiles, pinned_digest
from edge_agent.backbones.weights.published import Published
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.tips.model import Tips

STARTS = ("/", "./", "../", "~")
HINT = "a folder begins with /, ./, ../ or ~"


class TipsFolder(Family):
    """A folder with vision.npz, text.npz and tokenizer.model, pinned or not. The last family of the list: a name is not
    taken for what happens to lie here."""

    form: ClassVar[str | None] = "a folder"

    def knows(self, name: str) -> bool:
        """See Family. What is in the folder shows when it is loaded."""
        return name.startswith(STARTS) or Path(name).is_dir()

    def resolve(self, name: str, folder: Path) -> str:
        """See Family. A config's path begins as a path does, so that a misspelt name is not taken for one."""
        if not name.startswith(STARTS):
            raise CheckpointError(f"{name!r} is no known backbone; {HINT}")
        path = Path(os.path.abspath(folder / os.path.expanduser(name)))
        if not path.is_dir():
            raise CheckpointError(f"the folder {path} does not exist")
        return str(path)

    def published(self, name: str) -> Published:
        """See Family."""
        raise CheckpointError(f"{name!r} is a folder: there is nothing to fetch")

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """See Family."""
        return pinned_digest(Path(name))

    def load(self, name: str, folders: Sequence[Path]) -> Tips:
        """See Family. The backbone is called as the folder is."""
        from edge_agent.backbones.tips.model import load_tips_files

        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise CheckpointError(f"the folder {folder} does not exist")
        return load_tips_files(BackboneFiles(folder.name, folder))
