"""The pictures of a fit: labelled ones of a folder, or good ones with defects painted on half of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge_agent.errors import EdgeAgentError
from trainer.data import doubts
from trainer.data.examples import Example, Skipped, good_pictures, read_examples, readable
from trainer.data.painted_pictures import painted_pictures
from trainer.fit.features import LabelledPicture
from trainer.io.prefetch import in_order

KEEP_ONE_IN = 5  # pictures kept apart from the fit, to compare on
CHECKED = 100  # pictures made at most to compare on
T = TypeVar("T")


class TooFewError(EdgeAgentError):
    """There are too few pictures to keep some apart from the fit."""


@dataclass(frozen=True, slots=True)
class FitPictures:
    """The pictures of one process of a fit.

    read: yields them, and adds to the list what it skips. count: the most that it yields. source: names all pictures of
    the fit for people. key: changes when the pictures do, as a fit resumes only with the same ones. doubts: yields sentences
    about all pictures of the fit that are doubtful though they can be read; the files are read for it. check: pictures kept apart
    from the fit, to compare on, the same in every process; None without.
    """

    read: Callable[[list[Skipped]], Iterable[LabelledPicture]]
    count: int
    source: str
    key: str
    doubts: Callable[[], Iterable[str]]
    check: FitPictures | None = None


def from_data(folder: Path, part: tuple[int, int] = (0, 1), *, seed: int = 0, keep_apart: bool = False) -> FitPictures:
    """Take labelled pictures of a folder, see examples.py.

    Args:
        folder: of the pictures.
        part: this process's rank, and the number of processes; default a single one.
        seed: decides which are kept apart; default 0.
        keep_apart: whether to keep one in KEEP_ONE_IN of each kind apart, to compare on; default False.

    Raises EdgeAgentError when the folder has no good or no masked defective pictures, or cannot be read, and TooFewError when
    none can be kept apart.
    """
    leftover: list[Path] = []
    examples = read_examples(folder, leftover=leftover)
    require_both([one.defective for one in examples if one.masks or not one.defective], folder)
    usable = [one for one in examples if one.masks or not one.defective]
    apart: list[Example] = []
    for defective in (False, True) if keep_apart else ():
        kind = [one for one in usable if one.defective == defective]
        _require_two(kind, f"{folder}: {len(kind)} {'defective' if defective else 'good'} picture")
        apart += _kept_apart(kind, seed)
    kept = set(map(id, apart))
    fitted = [one for one in examples if id(one) not in kept]
    own = fitted[_slice(len(fitted), part)]
    return FitPictures(
        partial(_labelled, own),
        len(own),
        f"{len(fitted)} labelled pictures of {folder.name}",
        _digest(_files(fitted)),
        partial(doubts.of_examples, examples, leftover),
        _check(
            partial(_labelled, apart), len(apart), f"{len(apart)} pictures of {folder.name}", _digest(_files(apart))
        ),
    )


def from_good(
    folder: Path, count: int, seed: int, part: tuple[int, int] = (0, 1), *, keep_apart: bool = False
) -> FitPictures:
    """Make pictures from a folder of good ones, with defects painted on about half of them.

    Args:
        folder: of the good pictures.
        count: number of pictures to make, for all processes together.
        seed: decides them.
        part: this process's rank, and the number of processes; default a single one.
        keep_apart: whether to keep one in KEEP_ONE_IN of the good pictures apart, and to make pictures of them to compare on;
            default False.

    Raises EdgeAgentError when there is no good picture, and TooFewError when none can be kept apart.
    """
    good = good_pictures(folder)
    apart: list[Path] = []
    if keep_apart:
        _require_two(good, f"{folder}: {len(good)} good picture")
        apart = _kept_apart(good, seed)
    fitted = [one for one in good if one not in set(apart)]
    own = _slice(count, part)

    def read(good: Sequence[Path], numbers: range, seed: int, skipped: list[Skipped]) -> Iterator[LabelledPicture]:
        for pixels, mask, _ in painted_pictures(good, numbers, seed, skipped):
            yield LabelledPicture(pixels, mask)

    def copies() -> Iterable[str]:
        return doubts.of_copies([[str(one) for one in group] for group in doubts.same_files(good)])

    checked = min(count, CHECKED) if apart else 0
    return FitPictures(
        partial(read, fitted, range(own.start, own.stop), seed),
        own.stop - own.start,
        f"{count} pictures made of {len(fitted)} good ones of {folder.name}",
        _digest(fitted),
        copies,
        _check(
            partial(read, apart, range(checked), seed + 1),
            checked,
            f"{checked} pictures with painted defects, made of {len(apart)} good ones of {folder.name}",
            _digest(apart),
        ),
    )


def _check(
    read: Callable[[list[Skipped]], Iterable[LabelledPicture]], count: int, source: str, key: str
) -> FitPictures | None:
    """Return the pictures to compare on; None where there are none. For the arguments see FitPictures."""
    return FitPictures(read, count, f"{source} that were kept apart from the fit", key, list) if count else None


def _require_two(pictures: Sequence[object], what: str) -> None:
    if len(pictures) < 2:
        raise TooFewError(
            f"{what} is too few to keep one apart, on which the fit is compared with what there is already: add pictures, or"
            " give --force to do without"
        )


def _kept_apart(pictures: Sequence[T], seed: int) -> list[T]:
    """Return one in KEEP_ONE_IN of the pictures, at least one, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(pictures))[: -(-len(pictures) // KEEP_ONE_IN)]
    return [pictures[index] for index in sorted(chosen)]


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


def _files(examples: Sequence[Example]) -> Iterator[Path]:
    return (path for one in examples for path in (one.picture, *one.masks))


def _slice(count: int, part: tuple[int, int]) -> slice:
    """Return the pictures of one process: neighbours, so that the processes one after another have them in order."""
    rank, world = part
    return slice(count * rank // world, count * (rank + 1) // world)


def _digest(paths: Iterable[Path]) -> str:
    """Return a name for a set of files as they are: by path, size and time of change."""
    facts = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(paths)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
