"""The pictures of a fit: labelled ones of a folder, or good ones with defects painted on half of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.errors import EdgeAgentError
from trainer.data import doubts
from trainer.data.examples import Example, Skipped, good_pictures, read_examples, readable
from trainer.data.painted_pictures import painted_pictures
from trainer.fit.features import LabelledPicture
from trainer.io.prefetch import in_order


@dataclass(frozen=True, slots=True)
class FitPictures:
    """The pictures of one process of a fit.

    read: yields them, and adds to the list what it skips. count: the most that it yields. source: names all pictures of
    the fit for people. key: changes when the pictures do, as a fit resumes only with the same ones. doubts: yields sentences
    about all pictures of the fit that are doubtful though they can be read; the files are read for it.
    """

    read: Callable[[list[Skipped]], Iterable[LabelledPicture]]
    count: int
    source: str
    key: str
    doubts: Callable[[], Iterable[str]]


def from_data(folder: Path, part: tuple[int, int] = (0, 1)) -> FitPictures:
    """Take labelled pictures of a folder, see examples.py. part: this process's rank, and the number of processes.

    Raises EdgeAgentError when the folder has no good or no masked defective pictures, or cannot be read.
    """
    leftover: list[Path] = []
    examples = read_examples(folder, leftover=leftover)
    require_both([one.defective for one in examples if one.masks or not one.defective], folder)
    own = examples[_slice(len(examples), part)]
    key = _digest(path for one in examples for path in (one.picture, *one.masks))
    source = f"{len(examples)} labelled pictures of {folder.name}"
    return FitPictures(partial(_labelled, own), len(own), source, key, partial(doubts.of_examples, examples, leftover))


def from_good(folder: Path, count: int, seed: int, part: tuple[int, int] = (0, 1)) -> FitPictures:
    """Make pictures from a folder of good ones, with defects painted on about half of them.

    Args:
        folder: of the good pictures.
        count: number of pictures to make, for all processes together.
        seed: decides them.
        part: this process's rank, and the number of processes; default a single one.

    Raises EdgeAgentError when there is no good picture.
    """
    good = good_pictures(folder)
    own = _slice(count, part)
    source = f"{count} pictures made of {len(good)} good ones of {folder.name}"

    def read(skipped: list[Skipped]) -> Iterator[LabelledPicture]:
        for pixels, mask, _ in painted_pictures(good, range(own.start, own.stop), seed, skipped):
            yield LabelledPicture(pixels, mask)

    def copies() -> Iterable[str]:
        return doubts.of_copies([[str(one) for one in group] for group in doubts.same_files(good)])

    return FitPictures(read, own.stop - own.start, source, _digest(good), copies)


def require_both(defective: Sequence[bool] | np.ndarray, source: object) -> None:
    """Raise EdgeAgentError unless some pictures are defective and some are not. source: names them in the message."""
    if not any(defective):
        raise EdgeAgentError(
            f"{source}: has no defective pictures with masks, and fitting needs some: add them, or give the folder of good pictures"
            " with --good, and defects are painted onto them (if it was given so: a larger --count)"
        )
    if all(defective):
        raise EdgeAgentError(f"{source}: has no good pictures, and fitting needs some: add them, as CATEGORY/test/good")


def _labelled(examples: Sequence[Example], skipped: list[Skipped], workers: int = 2) -> Iterator[LabelledPicture]:
    """Yield examples with pixels and mask, decoded ahead by threads; broken ones and defective ones without a mask are skipped."""

    def decoded(example: Example) -> list[LabelledPicture]:
        pictures = []
        for _, pixels, mask in readable([example], skipped):
            if mask is None:
                skipped.append(Skipped(example.picture, "defective, but without a mask"))
            else:
                pictures.append(LabelledPicture(pixels, mask))
        return pictures

    with ThreadPoolExecutor(workers) as pool:
        for pictures in in_order(pool, 4 * workers, decoded, examples):
            yield from pictures


def _slice(count: int, part: tuple[int, int]) -> slice:
    """Return the pictures of one process: neighbours, so that the processes one after another have them in order."""
    rank, world = part
    return slice(count * rank // world, count * (rank + 1) // world)


def _digest(paths: Iterable[Path]) -> str:
    """Return a name for a set of files as they are: by path, size and time of change."""
    facts = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(paths)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
