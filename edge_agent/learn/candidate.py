"""The candidate of all labels since the last learning: made, compared with what is there, and taken into use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_agent import build
from edge_agent.config.config import Config
from edge_agent.config.station import StationConfig
from edge_agent.detectors.checkpoint import Checkpoint, encoded, load_checkpoint
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.together import TogetherDetector
from edge_agent.journal.labels import Labels, open_labels
from edge_agent.journal.reader import open_reader
from edge_agent.journal.rows import Label
from edge_agent.learn.bank import Learner, require_bank, without
from edge_agent.learn.corrections import Corrections, KeptPicture, corrections, newest_kept
from edge_agent.learn.gate import LAST, Compared, compare, objections
from edge_agent.learn.station_files import StationFiles, station_files
from edge_agent.line.inspect import Station


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A corrected bank that is not in use.

    found: what it has learnt. compared: labelled pictures and the last that were kept, read with the bank that is there and
    with this one. objections: what stands against it, a sentence each. left_out: what could not be learnt, likewise.
    """

    station: StationConfig
    files: StationFiles
    found: Corrections
    checkpoint: Checkpoint
    compared: Sequence[Compared]
    objections: Sequence[str]
    left_out: Sequence[str]

    @property
    def changes(self) -> bool:
        """Whether there was anything to learn or to take back."""
        return bool(self.found.to_learn or self.found.withdrawn)

    @property
    def learnt(self) -> list[int]:
        """The numbers of the labels that it has learnt."""
        return [one.label.number for one in self.found.to_learn if one.label]

    def use(self, labels: Labels) -> Path:
        """Write it, have config.yaml name it, and record what it has learnt; return its file. Raises EdgeAgentError."""
        file = self.files.with_corrections(encoded(self.checkpoint), self.station.calibration)
        labels.note_learnt(self.learnt, self.checkpoint.sha256)
        return file


def make_candidate(
    config: Config,
    path: Path,
    name: str | None,
    *,
    said: Sequence[Label] = (),
    loader: Loader | None = None,
    reading: Callable[[int], Callable[[int], object]] = lambda total: lambda count: None,
) -> Candidate:
    """Make a corrected bank of a station from its labels, and compare; write nothing.

    Args:
        config: of the agent.
        path: the file that `config` came from.
        name: of the station; None where it is the only one.
        said: labels that count in place of those in the journal; default none.
        loader: loads the station's detector; default one of its own.
        reading: called once with the number of pictures to read; what it returns is called with those that were read.

    Raises:
        EdgeAgentError: the station has no bank, or the journal or a file cannot be read.
    """
    station = config.station(name)
    files = station_files(path, station)
    parent = load_checkpoint(files.checkpoint)
    require_bank(parent, station.name)
    url = config.database.full_url()
    with open_reader(url) as reader, open_labels(url) as labels:
        found = corrections(reader, labels, station.name, parent.header, said)
        last = newest_kept(reader, station.name, found.pictures, LAST)
    loader = loader or build.loader(config)
    before = build.station(station, loader, config.sha256)
    single = build.single_detector(station.detector, loader)

    def decode(one: KeptPicture) -> np.ndarray:
        return one.decode(config.limits.max_megapixels)

    learner = Learner(
        single,
        parent,
        before.rules.threshold,
        keep=before.keep,
        in_squares=before.detector.info.squares,
        decode=decode,
        of_bank=lambda pixels: _of_bank(before, pixels),
    )
    checkpoint, nothing = learner.corrected(found)
    compared: list[Compared] = []
    against: list[str] = []
    if found.to_learn or found.withdrawn:
        after = _with(before, single, checkpoint)

        def unaided(one: KeptPicture) -> tuple[Station, Station]:
            first, second = (_with(before, single, without(each, [one.inspection.id])) for each in (parent, checkpoint))
            return first, second

        evidence = {one.inspection.id for one in last}
        older = [one for key, one in sorted(found.pictures.items()) if key not in evidence]
        pictures = [(one, False) for one in older] + [(one, True) for one in last]
        compared = compare(pictures, before, after, decode, unaided, reading(len(pictures)), config.limits.batch_size)
        rate = station.calibration.false_alarm_rate if station.calibration else None
        blinded = learner.blinded(checkpoint)
        against = list(objections(compared, blinded, found.withdrawn, flips=config.learn.flips, false_alarm_rate=rate))
    return Candidate(station, files, found, checkpoint, compared, against, [*found.left_out, *nothing])


def _of_bank(station: Station, pixels: np.ndarray) -> float:
    """Return the score of the station's bank at which a picture reaches the threshold."""
    if isinstance(station.detector, TogetherDetector):
        return station.detector.of_bank(station.rules.threshold, pixels, station.keep)
    return station.rules.threshold


def _with(station: Station, single: PromptDetector, checkpoint: Checkpoint) -> Station:
    """Return a station that looks with another bank, and as before otherwise. single: what it reads one square with."""
    info = station.detector.info
    detector = PromptDetector(
        single.method.backbone, checkpoint, "", image_size=single.info.image_size, dtype=single.dtype
    )
    bank = Loader([]).arranged(detector, info.windows, info.squares)
    own = station.detector.with_bank(bank) if isinstance(station.detector, TogetherDetector) else bank
    return replace(station, detector=own)
