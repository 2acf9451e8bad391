"""The backbone that ships in the package: a small TIPS of our own, with the prompts that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.family import Family
from edge_agent.backbones.tips.files import BackboneFiles, missing, pinned_digest, size_of, verified
from edge_agent.backbones.weights.published import Published

if TYPE_CHECKING:
    from edge_agent.backbones.tips.model import Tips

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "models" / EMBEDDED
EMBEDDED_CHECKPOINT = EMBEDDED_FOLDER / "tipsomaly.safetensors"


class EmbeddedFamily(Family):
    """Of one backbone, which is always here. Its folder needs no pins: it is as trustworthy as the program."""

    catalog: ClassVar[Mapping[str, Published]] = MappingProxyType(
        {EMBEDDED: Published(EMBEDDED, "edge-agent", "Apache-2.0", 224, 16, 256, 5.2, 2.5, shipped=EMBEDDED_FOLDER)}
    )

    def checkpoint(self, name: str) -> Path:
        """See Family."""
        return EMBEDDED_CHECKPOINT

    def installed_bytes(self, folder: Path) -> int | None:
        """See Family."""
        return None if missing(folder) else size_of(folder)

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """See Family."""
        return pinned_digest(EMBEDDED_FOLDER)

    def load(self, name: str, folders: Sequence[Path]) -> Tips:
        """See Family. folders: not looked at."""
        from edge_agent.backbones.tips.model import load_tips_files

        files = BackboneFiles(EMBEDDED, EMBEDDED_FOLDER)
        return load_tips_files(verified(files, remedy="the package is not whole: install it again"))
