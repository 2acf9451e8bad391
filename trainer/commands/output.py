"""What several commands show while they work, and what they check before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from tqdm import tqdm


def bar(total: int, what: str) -> tqdm:
    """A progress bar over `total` pictures; silent where nobody watches."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="picture", leave=False, disable=None)


def writable(out: Path) -> None:
    """Raises EdgeAgentError when there is no folder for it, before an hour of work is done for nothing."""
    if not out.parent.is_dir():
        raise EdgeAgentError(f"{out.parent}: no such folder to write {out.name} into; make it first")
