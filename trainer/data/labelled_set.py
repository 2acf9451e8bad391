"""A labelled set in MVTec layout made of a folder of good pictures, with one category.

CATEGORY/train/good and CATEGORY/test/good hold half of the good pictures each; CATEGORY/test/KIND holds those that a defect was
painted on, made of the second half alone, so that nothing of train is in test; CATEGORY/ground_truth/KIND their masks, 255 where
the defect is. MANIFEST says what is made of what; PAGE shows some.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.data.contact_page import contact_page, shown
from trainer.data.examples import Skipped, good_pictures
from trainer.data.painted_pictures import paint_picture
from trainer.io.files import png
from trainer.io.prefetch import in_order
from trainer.io.whole_folder import beside, put, seal, sealed, write

FORMAT = "edge-agent/synthesized/1"
MANIFEST, PAGE = "synthesized.json", "contact_page.png"
SHOWN = 24  # pictures on the page
AHEAD = 3  # pictures a worker that may wait for their turn: large ones are large


@dataclass(frozen=True, slots=True)
class Wanted:
    """What decides every byte of a set. good: digest of the good pictures' names and bytes. version: of the program."""

    category: str
    count: int
    seed: int
    good: str
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a set, paths relative to it; made_of: relative to the good pictures. files: SHA-256 by path."""

    kind: str
    made_of: str
    picture: str
    mask: str | None
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """A set as it lies in its folder. kinds: how many pictures have which defect. anew: whether it was written just now."""

    train: int
    test: int
    kinds: dict[str, int]
    skipped: Sequence[Skipped]
    anew: bool


def make_set(
    good: Path,
    out: Path,
    category: str,
    count: int,
    seed: int = 0,
    workers: int = 2,
    report: Callable[[int], object] = lambda n: None,
) -> Made:
    """Make the set in the folder `out`: of every good picture below `good` that can be read, and `count` with a defect painted on.

    category: what its one folder is called. workers: threads. report(n): n more pictures are written. The same good pictures, count
    and seed give the same bytes, however many workers there are. What an earlier call made in `out` is replaced once the new set is
    whole; the very same stays. Raises EdgeAgentError when `out` holds anything else, no good picture can be read, or writing fails.
    """
    out, good = out.resolve(), good.resolve()
    if out == good or good in out.parents or out in good.parents:
        raise EdgeAgentError(
            f"{out}: lies in {good}, or the other way round: name an --out apart from the good pictures"
        )
    sources = good_pictures(good)
    try:
        with beside(out) as work, ThreadPoolExecutor(workers) as pool:
            known = sealed(out, MANIFEST, FORMAT)
            each = partial(in_order, pool, AHEAD * workers)
            seen = list(each(_look, sources))
            names = [
                [source.relative_to(good).as_posix(), digest] for source, (digest, _) in zip(sources, seen, strict=True)
            ]
            wanted = Wanted(category, count, seed, hashlib.sha256(json.dumps(names).encode()).hexdigest())
            skipped = [Skipped(source, fault) for source, (_, fault) in zip(sources, seen, strict=True) if fault]
            if known and known["wanted"] == asdict(wanted) and all((out / name).is_file() for name in known["files"]):
                return _made([Entry(**one, files={}) for one in known["pictures"]], skipped, anew=False)
            broken = {one.path for one in skipped}
            readable = [source for source in sources if source not in broken]
            if not readable:
                raise EdgeAgentError(
                    f"{good}: none of the {len(sources)} good pictures can be read; the first: {skipped[0].path}: {skipped[0].reason}"
                )
            entries = _write_set(work, good, readable, wanted, each, report)
            put(out)
            return _made(entries, skipped, anew=True)
    except OSError as error:
        raise EdgeAgentError(
            f"{error.filename or out}: cannot be read or written ({error.strerror or error}): free space, or name another --out"
        ) from error


def _write_set(
    work: Path, good: Path, readable: Sequence[Path], wanted: Wanted, each: Any, report: Callable[[int], object]
) -> list[Entry]:
    """Fill the empty folder `work`."""
    order = np.random.default_rng(wanted.seed).permutation(len(readable))
    middle = (len(order) + 1) // 2
    test, train = ([readable[index] for index in sorted(half)] for half in (order[:middle], order[middle:]))
    copies = [
        (source, f"{wanted.category}/{split}/good/{number:03}.png")
        for split, half in (("train", train), ("test", test))
        for number, source in enumerate(half)
    ]
    entries: list[Entry] = []
    for entry in each(partial(_copy, work, good), copies):
        entries.append(entry)
        report(1)
    for entry in each(partial(_paint, work, good, test, wanted), range(wanted.count)):
        entries.append(entry)
        report(1)
    defective = [one for one in entries if one.mask]
    title = f"{wanted.category}: {wanted.count} pictures with a painted defect, made of {len(test)} good ones"
    files = {PAGE: write(work / PAGE, png(_page(work, defective, title)))}
    for entry in entries:
        files |= entry.files
    pictures = [{name: value for name, value in asdict(one).items() if name != "files"} for one in entries]
    seal(work, MANIFEST, {"format": FORMAT, "wanted": asdict(wanted), "pictures": pictures}, files)
    return entries


def _look(source: Path) -> tuple[str, str]:
    """SHA-256 of the file, and why it cannot be read as a picture, nothing when it can."""
    try:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        decode(source, min_side=MIN_SIDE)
    except PictureError as error:
        return digest, Skipped.by(error, source).reason
    except OSError as error:
        return "", f"cannot be read ({error.strerror}): let this user read it"
    return digest, ""


def _copy(work: Path, good: Path, item: tuple[Path, str]) -> Entry:
    source, name = item
    digest = write(work / name, png(decode(source)))
    return Entry("good", source.relative_to(good).as_posix(), name, None, {name: digest})


def _paint(work: Path, good: Path, test: Sequence[Path], wanted: Wanted, number: int) -> Entry:
    rng = np.random.default_rng([wanted.seed, number])
    source, donor = test[number % len(test)], test[int(rng.integers(len(test)))]
    pixels, mask, kind = paint_picture(rng, decode(source), decode(donor))
    kind = kind.replace(" ", "_")
    name = f"{wanted.category}/test/{kind}/{number:03}.png"
    masked = f"{wanted.category}/ground_truth/{kind}/{number:03}_mask.png"
    files = {
        name: write(work / name, png(pixels)),
        masked: write(work / masked, png(mask.view(np.uint8) * np.uint8(255))),
    }
    return Entry(kind, source.relative_to(good).as_posix(), name, masked, files)


def _page(work: Path, defective: Sequence[Entry], title: str) -> np.ndarray:
    """Of each kind one, then the first of the others, in the order of the set."""
    firsts = {entry.kind: entry for entry in reversed(defective)}
    chosen = sorted(defective, key=lambda entry: firsts[entry.kind] is not entry)[:SHOWN]
    places = []
    for entry in sorted(chosen, key=defective.index):
        mask = decode(work / str(entry.mask)).max(axis=2) > 0
        share = f"{100 * mask.mean():.2g} % of the picture"
        places.append(shown(decode(work / entry.picture), mask, f"{entry.kind}/{Path(entry.picture).name}: {share}"))
    left_out = f"{len(places)} of them here" if len(places) < len(defective) else "all of them here"
    return contact_page(places, title, f"{left_out}: the defect outlined, and from near without a line")


def _made(entries: Sequence[Entry], skipped: Sequence[Skipped], anew: bool) -> Made:
    good = [one.picture.split("/")[1] for one in entries if one.mask is None]
    kinds = Counter(one.kind for one in entries if one.mask)
    return Made(good.count("train"), good.count("test"), dict(sorted(kinds.items())), skipped, anew)
