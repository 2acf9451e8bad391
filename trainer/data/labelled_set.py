"""A labelled set in MVTec layout, with one category, made from a folder of good pictures.

CATEGORY/train/good and CATEGORY/test/good hold half of the good pictures each. CATEGORY/test/KIND holds pictures with painted
defects, made from the second half alone, so that no picture of train is in test; CATEGORY/ground_truth/KIND holds their masks,
255 at the defect. MANIFEST lists from which picture each one was made; PAGE shows some.
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
from edge_agent.io.names import file_part
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.data.contact_page import contact_page, make_entry
from trainer.data.examples import Skipped, good_pictures
from trainer.data.painted_pictures import paint_picture
from trainer.io.files import png
from trainer.io.prefetch import in_order
from trainer.io.whole_folder import beside, put, seal, sealed, write

FORMAT = "edge-agent/synthesized/1"
MANIFEST, PAGE = "synthesized.json", "contact_page.png"
ON_PAGE = 24  # pictures
AHEAD = 3  # pictures a worker that may wait in memory


@dataclass(frozen=True, slots=True)
class SetRecipe:
    """Everything that decides the bytes of a set. good: digest of the good pictures' names and bytes. version: of the program."""

    category: str
    count: int
    seed: int
    good: str
    version: str = __version__


@dataclass(frozen=True, slots=True)
class SetPicture:
    """One picture of a set. Paths are relative to the set, made_of to the good pictures. files: SHA-256 by path."""

    kind: str
    made_of: str
    picture: str
    mask: str | None
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A set in its folder.

    train, test: numbers of good pictures. kinds: number of pictures by kind of defect. skipped: good pictures that could not be
    read. is_new: whether this call wrote the set; else it was there already.
    """

    train: int
    test: int
    kinds: dict[str, int]
    skipped: Sequence[Skipped]
    is_new: bool


def category_of(class_name: str) -> str:
    """Return a class name as the name of a folder; "object" where nothing of it can be used."""
    return file_part(class_name.strip(), "object", ascii_only=False, also="+")


def make_set(
    good: Path,
    out: Path,
    category: str,
    count: int,
    seed: int = 0,
    workers: int = 2,
    report: Callable[[int], object] = lambda n: None,
) -> LabelledSet:
    """Make a set in the folder `out`.

    The same good pictures, count and seed give the same bytes, with any number of workers. A set of an earlier call in `out` is
    replaced once the new one is complete, and kept if it is the same.

    Args:
        good: folder of good pictures; all that can be read are in the set.
        out: the set's folder, apart from `good`.
        category: name of its one category.
        count: number of pictures with a painted defect.
        seed: decides everything; default 0.
        workers: threads; default 2.
        report: called with the number of pictures written since the last call; default nothing.

    Raises EdgeAgentError when `out` holds anything else, no good picture can be read, or writing fails.
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
            checked = list(each(_check, sources))
            names = [
                [source.relative_to(good).as_posix(), digest]
                for source, (digest, _) in zip(sources, checked, strict=True)
            ]
            recipe = SetRecipe(category, count, seed, hashlib.sha256(json.dumps(names).encode()).hexdigest())
            skipped = [Skipped(source, fault) for source, (_, fault) in zip(sources, checked, strict=True) if fault]
            if known and known["wanted"] == asdict(recipe) and all((out / name).is_file() for name in known["files"]):
                return _summed_up([SetPicture(**one, files={}) for one in known["pictures"]], skipped, is_new=False)
            broken = {one.path for one in skipped}
            readable = [source for source in sources if source not in broken]
            if not readable:
                raise EdgeAgentError(
                    f"{good}: none of the {len(sources)} good pictures can be read; the first: {skipped[0].path}: {skipped[0].reason}"
                )
            pictures = _write_set(work, good, readable, recipe, each, report)
            put(out)
            return _summed_up(pictures, skipped, is_new=True)
    except OSError as error:
        raise EdgeAgentError(
            f"{error.filename or out}: cannot be read or written ({error.strerror or error}): free space, or name another --out"
        ) from error


def _write_set(
    work: Path, good: Path, readable: Sequence[Path], recipe: SetRecipe, each: Any, report: Callable[[int], object]
) -> list[SetPicture]:
    """Fill the empty folder `work`. each: maps a function over items in order, with the threads."""
    order = np.random.default_rng(recipe.seed).permutation(len(readable))
    middle = (len(order) + 1) // 2
    test, train = ([readable[index] for index in sorted(half)] for half in (order[:middle], order[middle:]))
    copies = [
        (source, f"{recipe.category}/{split}/good/{number:03}.png")
        for split, half in (("train", train), ("test", test))
        for number, source in enumerate(half)
    ]
    pictures: list[SetPicture] = []
    for made in (
        each(partial(_copy, work, good), copies),
        each(partial(_paint, work, good, test, recipe), range(recipe.count)),
    ):
        for one in made:
            pictures.append(one)
            report(1)
    defective = [one for one in pictures if one.mask]
    title = f"{recipe.category}: {recipe.count} pictures with a painted defect, made of {len(test)} good ones"
    files = {PAGE: write(work / PAGE, png(_page(work, defective, title)))}
    for one in pictures:
        files |= one.files
    listed = [{name: value for name, value in asdict(one).items() if name != "files"} for one in pictures]
    seal(work, MANIFEST, {"format": FORMAT, "wanted": asdict(recipe), "pictures": listed}, files)
    return pictures


def _check(source: Path) -> tuple[str, str]:
    """Return the SHA-256 of the file, and the reason why it cannot be read as a picture, "" if it can."""
    try:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        decode(source, min_side=MIN_SIDE)
    except PictureError as error:
        return digest, Skipped.by(error, source).reason
    except OSError as error:
        return "", f"cannot be read ({error.strerror}): let this user read it"
    return digest, ""


def _copy(work: Path, good: Path, item: tuple[Path, str]) -> SetPicture:
    source, name = item
    digest = write(work / name, png(decode(source)))
    return SetPicture("good", source.relative_to(good).as_posix(), name, None, {name: digest})


def _paint(work: Path, good: Path, test: Sequence[Path], recipe: SetRecipe, number: int) -> SetPicture:
    rng = np.random.default_rng([recipe.seed, number])
    source, donor = test[number % len(test)], test[int(rng.integers(len(test)))]
    pixels, mask, kind = paint_picture(rng, decode(source), decode(donor))
    kind = kind.replace(" ", "_")
    name = f"{recipe.category}/test/{kind}/{number:03}.png"
    masked = f"{recipe.category}/ground_truth/{kind}/{number:03}_mask.png"
    files = {
        name: write(work / name, png(pixels)),
        masked: write(work / masked, png(mask.view(np.uint8) * np.uint8(255))),
    }
    return SetPicture(kind, source.relative_to(good).as_posix(), name, masked, files)


def _page(work: Path, defective: Sequence[SetPicture], title: str) -> np.ndarray:
    """Show one picture of each kind, then the first of the others, in the order of the set."""
    firsts = {one.kind: one for one in reversed(defective)}
    chosen = sorted(defective, key=lambda one: firsts[one.kind] is not one)[:ON_PAGE]
    entries = []
    for one in sorted(chosen, key=defective.index):
        mask = decode(work / str(one.mask)).max(axis=2) > 0
        share = f"{100 * mask.mean():.2g} % of the picture"
        title_below = f"{one.kind}/{Path(one.picture).name}: {share}"
        entries.append(make_entry(decode(work / one.picture), mask, title_below))
    left_out = f"{len(entries)} of them here" if len(entries) < len(defective) else "all of them here"
    return contact_page(entries, title, f"{left_out}: the defect outlined, and from near without a line")


def _summed_up(pictures: Sequence[SetPicture], skipped: Sequence[Skipped], is_new: bool) -> LabelledSet:
    good = [one.picture.split("/")[1] for one in pictures if one.mask is None]
    kinds = Counter(one.kind for one in pictures if one.mask)
    return LabelledSet(good.count("train"), good.count("test"), dict(sorted(kinds.items())), skipped, is_new)
