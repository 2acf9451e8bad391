"""What makes a set of pictures doubtful though it can be read, in sentences: masks of nobody, inverted masks, copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_agent.errors import PictureError
from trainer.data.examples import Example
from trainer.data.masks import NAMES, decode_mask, is_doubtful


def of_leftover(files: Sequence[Path]) -> Iterator[str]:
    """Name files among the masks that belong to no picture."""
    if files:
        yield (
            f"{len(files)} file{'s' * (len(files) > 1)} among the masks belong{'s' * (len(files) == 1)} to no picture and"
            f" {'are' if len(files) > 1 else 'is'} left out: {_some([str(one) for one in files])}; masks of STEM.png are called {NAMES}"
        )


def of_inverted(count: int, total: int) -> Iterator[str]:
    """Tell of masks that seem to be inverted. count: of them; total: of all defective pictures."""
    if count:
        yield (
            f"the masks of {count} of {total} defective pictures cover most of the picture or touch all four of its borders:"
            " white marks the defect; if black does in yours, invert them"
        )


def of_copies(groups: Sequence[Sequence[str]], contradicting: int = 0) -> Iterator[str]:
    """Tell of pictures that occur several times.

    Args:
        groups: names of the same picture.
        contradicting: in how many of the groups it is called both good and defective; default 0.
    """
    if groups:
        extra = sum(len(group) - 1 for group in groups)
        yield (
            f"{extra} picture{'s are copies' if extra > 1 else ' is a copy'} of others, such as {_some(list(groups[0]), ' = ')}:"
            " they count as often as they occur, and prove no more than one"
        )
    if contradicting:
        yield f"{contradicting} of them are called good and defective at once: one of the two is wrong"


def of_examples(examples: Sequence[Example], leftover: Sequence[Path]) -> Iterator[str]:
    """Look for all of these in labelled pictures, whose files are read. Those that cannot be read are passed over.

    examples, leftover: see read_examples.
    """
    yield from of_leftover(leftover)
    defective = [one for one in examples if one.masks]
    yield from of_inverted(sum(_seems_inverted(one) for one in defective), len(defective))
    kinds = {one.picture: one.defective for one in examples}
    groups = same_files([one.picture for one in examples])
    yield from of_copies(
        [[str(path) for path in group] for group in groups],
        sum(len({kinds[path] for path in group}) > 1 for group in groups),
    )


def same_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Group files that are the same byte by byte; files that cannot be read are passed over."""
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        if path.is_file():
            sizes.setdefault(path.stat().st_size, []).append(path)
    groups: dict[str, list[Path]] = {}
    for size, several in sizes.items():
        for path in several if len(several) > 1 else ():
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                continue
            groups.setdefault(f"{size} {digest}", []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _seems_inverted(example: Example) -> bool:
    try:
        return any(is_doubtful(decode_mask(path)) for path in example.masks)
    except PictureError:
        return False


def _some(names: Sequence[str], between: str = ", ") -> str:
    return between.join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
