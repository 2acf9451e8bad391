"""The public sets that papers measure on, read as their owners publish them: which pictures are tested, which mask is whose."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.io.pictures import SUFFIXES
from trainer.data.examples import GOOD, META, Example, read_examples
from trainer.data.masks import MaskFolder, decode_mask

DEFECT = "defect"  # kind of defective pictures where a set tells no kinds apart
SPLIT = Path("split_csv", "1cls.csv")  # of VisA
COMMUTATORS = "electrical commutators"  # as the papers call the one category of KSDD
DEEPEST = 2  # folders between the given one and a set


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One set.

    name: as in published.PAPERS. categories: names of its categories. layout: what lies where in its folder, for people.
    holds: whether a folder seems to be the set's. read: its test split, below its folder.
    """

    name: str
    categories: Sequence[str]
    layout: str
    holds: Callable[[Path, Sequence[str]], bool]
    read: Callable[[Path, str], list[Example]]

    def examples(self, folder: Path) -> list[Example]:
        """List the test split, by category. Raises EdgeAgentError that says what was expected where."""
        if (folder / META).is_file():
            return read_examples(folder)
        found: list[Example] = []
        for category in self.categories:
            try:
                members = self.read(folder, category)
            except EdgeAgentError as error:
                raise self._unexpected(folder, category, str(error)) from None
            kinds = {one.defective for one in members}
            if kinds != {True, False}:
                missing = "good" if True in kinds else "defective" if kinds else "no"
                said = f"has no {missing} pictures" if kinds else "has no pictures, or is not there"
                raise self._unexpected(folder, category, said)
            unmarked = next((one.picture for one in members if one.defective and not one.masks), None)
            if unmarked:
                raise self._unexpected(folder, category, f"{unmarked} has no mask")
            found += members
        return found

    def _unexpected(self, folder: Path, category: str, what: str) -> EdgeAgentError:
        return EdgeAgentError(
            f"{folder}: not {self.name} as it is published: {category}: {what}; expected is {self.layout}, with the categories"
            f" {', '.join(self.categories)}; or a {META} as the papers' repositories write it"
        )


def find_sets(folder: Path) -> dict[str, tuple[PublicSet, Path]]:
    """Find the public sets in a folder, which may itself be one. Returns them by name, in the order of SETS.

    Raises EdgeAgentError, with the layouts, where there is none, and where one is there twice.
    """
    if not folder.is_dir():
        raise EdgeAgentError(f"{folder}: no such folder")
    found: dict[str, tuple[PublicSet, Path]] = {}
    level = [folder]
    for _ in range(DEEPEST + 1):
        below = []
        for place in level:
            known = next((one for one in SETS if one.holds(place, one.categories)), None)
            if known is None:
                below += sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))
            elif known.name in found:
                raise EdgeAgentError(
                    f"{place}: {known.name} a second time; the first is {found[known.name][1]}: name one of them"
                )
            else:
                found[known.name] = known, place
        level = below
    if not found:
        layouts = "\n".join(f"  {one.name}: {one.layout} ({', '.join(one.categories[:3])}, ...)" for one in SETS)
        raise EdgeAgentError(
            f"{folder}: none of the public sets is in it, nor is it one of them; expected is\n{layouts}"
        )
    return {one.name: found[one.name] for one in SETS if one.name in found}


def _has_most(folder: Path, categories: Sequence[str]) -> bool:
    """Return whether most categories of a set are folders there: one that lacks some is the set all the same, which is then said."""
    return 2 * sum((folder / one).is_dir() for one in categories) > len(categories)


def _mvtec(folder: Path, category: str) -> list[Example]:
    return read_examples(folder / category) if (folder / category).is_dir() else []


def _is_visa(folder: Path, categories: Sequence[str]) -> bool:
    return (folder / SPLIT).is_file() or _has_most(folder, categories)


def _visa(folder: Path, category: str) -> list[Example]:
    """Read what the split of the papers calls test."""
    if not (folder / SPLIT).is_file():
        return _mvtec(folder, category) if (folder / category / "test").is_dir() else _lacks_split(folder)
    with (folder / SPLIT).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {"object", "split", "label", "image", "mask"}
    if not rows or not wanted <= rows[0].keys():
        raise EdgeAgentError(f"{folder / SPLIT} lacks columns: {', '.join(sorted(wanted))} are expected")
    return [
        Example(
            category,
            DEFECT if row["label"] == "anomaly" else GOOD,
            folder / row["image"],
            (folder / row["mask"],) if row["label"] == "anomaly" and row["mask"] else (),
        )
        for row in rows
        if row["object"] == category and row["split"] == "test"
    ]


def _lacks_split(folder: Path) -> list[Example]:
    raise EdgeAgentError(f"{folder / SPLIT}, which says what is tested, is not there")


def _btad(folder: Path, category: str) -> list[Example]:
    place = folder / category
    masks = MaskFolder.of(place / "ground_truth" / "ko").named
    return [Example(category, GOOD, one) for one in _pictures(place / "test" / "ok")] + [
        Example(category, DEFECT, one, masks.get(one.stem, ())) for one in _pictures(place / "test" / "ko")
    ]


def _is_ksdd(folder: Path, categories: Sequence[str]) -> bool:
    return _has_most(folder, categories) or any(folder.glob("kos[0-9]*/Part*_label.bmp"))


def _ksdd(folder: Path, category: str) -> list[Example]:
    """Read all of it where it is as published: its owners name no pictures for a test without training."""
    if (folder / category).is_dir():
        return _mvtec(folder, category)
    examples = []
    for place in sorted(folder.glob("kos[0-9]*")):
        for picture in _pictures(place):
            mask = picture.with_name(f"{picture.stem}_label.bmp")
            if picture.stem.endswith("_label"):
                continue
            if not mask.is_file():
                raise EdgeAgentError(f"{picture} has no {mask.name} beside it")
            defective = bool(decode_mask(mask).any())
            examples.append(Example(category, DEFECT if defective else GOOD, picture, (mask,) if defective else ()))
    return examples


def _dagm(folder: Path, category: str) -> list[Example]:
    place = folder / category / "Test"
    masks = MaskFolder.of(place / "Label").named
    pictures = _pictures(place)
    return [Example(category, DEFECT if one.stem in masks else GOOD, one, masks.get(one.stem, ())) for one in pictures]


def _pictures(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(one for one in found if one.suffix.lower() in SUFFIXES and not one.name.startswith("."))


_MVTEC = "CATEGORY/test/good/*.png, CATEGORY/test/KIND/*.png and CATEGORY/ground_truth/KIND/*"

SETS = (
    PublicSet(
        "MVTec AD",
        (
            *(
                "bottle",
                "cable",
                "capsule",
                "carpet",
                "grid",
                "hazelnut",
                "leather",
                "metal_nut",
                "pill",
                "screw",
                "tile",
            ),
            *("toothbrush", "transistor", "wood", "zipper"),
        ),
        _MVTEC,
        _has_most,
        _mvtec,
    ),
    PublicSet(
        "VisA",
        (
            *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
            *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
        ),
        f"{SPLIT} and the files it names, such as CATEGORY/Data/Images/Normal/*.JPG",
        _is_visa,
        _visa,
    ),
    PublicSet(
        "MPDD",
        ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
        _MVTEC,
        _has_most,
        _mvtec,
    ),
    PublicSet(
        "BTAD",
        ("01", "02", "03"),
        "CATEGORY/test/ok/*, CATEGORY/test/ko/* and CATEGORY/ground_truth/ko/*",
        _has_most,
        _btad,
    ),
    PublicSet(
        "KSDD",
        (COMMUTATORS,),
        f"kos01/Part0.jpg with kos01/Part0_label.bmp and so on, or '{COMMUTATORS}'/test/good/* and test/KIND/* in MVTec layout",
        _is_ksdd,
        _ksdd,
    ),
    PublicSet(
        "DAGM",
        tuple(f"Class{number}" for number in range(1, 11)),
        "CATEGORY/Test/*.PNG and CATEGORY/Test/Label/*_label.PNG",
        _has_most,
        _dagm,
    ),
    PublicSet(
        "DTD-Synthetic",
        (
            *(
                "Blotchy_099",
                "Fibrous_183",
                "Marbled_078",
                "Matted_069",
                "Mesh_114",
                "Perforated_037",
                "Stratified_154",
            ),
            *("Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127"),
        ),
        _MVTEC,
        _has_most,
        _mvtec,
    ),
)
