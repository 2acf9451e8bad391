"""The station that is in the folder already: what it looks with, and the pictures that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent import build
from edge_agent.backbones.weights.digests import measure
from edge_agent.config.load import load_config
from edge_agent.config.places import parse
from edge_agent.config.station import StationConfig
from edge_agent.core import Detector
from edge_agent.detectors.methods import METHODS
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.arranged import arranged
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.bank.bank import SIZE, make_bank
from trainer.bank.good_picture import GoodPicture
from trainer.data.examples import defective_pictures, good_pictures
from trainer.station.candidates import Candidate, candidate_of
from trainer.station.folder import BAD, CONFIG, GOOD
from trainer.station.pictures import PictureSet


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """A station as its folder has it.

    config: its section of config.yaml. section: its `detector` as it is written there. header: of its checkpoint; None
    without one. good, bad: the pictures that it was made from, by SHA-256 (hex) and as files.
    """

    config: StationConfig
    section: Mapping[str, Any]
    header: Mapping[str, Any] | None
    good: Mapping[str, Path]
    bad: Sequence[Path]

    @property
    def shown(self) -> list[str]:
        """SHA-256 (hex) of the good pictures that its bank was made from, in their order; none without a bank."""
        return [str(one["sha256"]) for one in (self.header or {}).get("good", ())]

    @property
    def align(self) -> bool:
        """Whether its parts are aligned."""
        return bool((self.header or {}).get("align"))

    @property
    def trunks(self) -> list[str]:
        """The backbone of its bank, which new good parts are shown to, too; none without a bank."""
        made = self.header and METHODS[self.header["method"]].from_good_parts
        return [self.config.detector.model] if made else []

    @property
    def size(self) -> int:
        """Patches that its bank holds at most; SIZE without one, or where it does not say."""
        return int((self.header or {}).get("size", SIZE))

    @property
    def compared(self) -> bool:
        """Whether it is a candidate: it has a checkpoint that is not fitted on its own good parts, none of which was taken out."""
        return self.config.detector.checkpoint is not None and set(self.shown) <= self.good.keys() and not self.fitted

    @property
    def fitted(self) -> bool:
        """Whether it has prompts that were fitted on its own good parts, and so cannot be measured on them."""
        method = METHODS[self.header["method"]] if self.shown and self.header else None
        return bool(method and method.fitted and not method.from_good_parts)

    def checkpoint_sha256(self) -> str | None:
        """Return the digest (hex) of its checkpoint's file; None without one."""
        path = self.config.detector.checkpoint
        return measure(path)["sha256"] if path else None

    def cautions(self) -> Iterator[str]:
        """Yield what is not as a person may think when more parts are added."""
        if self.shown and not set(self.shown) <= self.good.keys():
            yield (
                "some good parts of the station's bank are no longer in its folder of pictures: they were taken out, so it is"
                " replaced without being compared"
            )
        if self.fitted:
            yield (
                "the station's prompts were fitted on its own good parts and cannot be measured on them, so they are replaced without"
                " being compared: give --time again, and new ones are fitted"
            )
        if count := len((self.header or {}).get("corrections", ())):
            yield (
                f"the station has learnt {count} correction{'s' * (count > 1)}, which a new bank does not hold: if it gets one, run"
                f" `edge-agent learn --station {self.config.name}` again"
            )
        if self.config.include or self.config.ignore:
            yield f"station {self.config.name} looks at a part of the picture (include, ignore); here all of it counts"

    def steps(self, pictures: PictureSet) -> int:
        """Return how many times `as_it_is` reports."""
        return len(self.shown) + len(pictures.good) + len(pictures.bad)


def present_station(out: Path, name: str | None) -> Present:
    """Read the station of a folder. name: needed when its config.yaml has several. Raises EdgeAgentError."""
    file = out / CONFIG
    if not file.exists():
        raise EdgeAgentError(f"{out}: holds no station: make one with --good FOLDER in place of --add")
    config = load_config(file).station(name)
    written = next(one for one in parse(file.read_text("utf-8-sig")).data["stations"] if one["name"] == config.name)
    if not (out / GOOD).is_dir():
        raise EdgeAgentError(
            f"{out / GOOD}: is not there, so the good parts that the station was made from are not known: make it again with"
            " --good, with all of them"
        )
    return Present(
        config,
        written.get("detector") or {},
        config.detector.header(),
        {measure(path)["sha256"]: path for path in good_pictures(out / GOOD)},
        defective_pictures(out / BAD) if (out / BAD).is_dir() else [],
    )


def as_it_is(
    present: Present, pictures: PictureSet, seed: int, loader: Loader, report: Callable[[int], object]
) -> Candidate:
    """Measure the station as it is on good parts that it was not shown, and on defective ones.

    Its own good parts are read with banks made like its own, each without some of them.

    Args:
        present: what it looks with; `present.compared`.
        pictures: good and defective ones.
        seed: of the banks, where its header does not say.
        loader: loads its detector.
        report: called with 1 for every picture that was read.
    """
    config, header = present.config, present.header
    detector = build.detector(config.detector, loader, config.calibration)
    readers: dict[str, Detector] = {}
    if header and METHODS[header["method"]].from_good_parts:
        shown = [
            GoodPicture(present.good[digest].name, digest, partial(decode, present.good[digest], min_side=MIN_SIDE))
            for digest in present.shown
        ]
        backbone = loader.backbone(config.detector.model)
        again = make_bank(
            backbone,
            shown,
            image_size=int(header["image_size"]),
            size=present.size,
            align=present.align,
            seed=int(header.get("seed", seed)),
            report=report,
        )
        alone = [arranged(PromptDetector(backbone, one, config.detector.class_name)) for one in again.folds]
        folds = [build.together(config.detector, one, loader, squares=True) for one in alone]
        readers = {digest: folds[fold] for digest, fold in zip(present.shown, again.fold, strict=True)}
    parts = f", from {len(present.shown)} good part{'s' * (len(present.shown) > 1)}" if present.shown else ""
    return candidate_of(
        f"the station as it is{parts}",
        detector,
        present.section,
        None,
        pictures,
        lambda number: readers.get(pictures.good[number].sha256, detector),
        report,
    )
