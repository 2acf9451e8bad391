"""The files of a station that learns: each checkpoint beside the one before, and config.yaml, which names the one in use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_agent.config.edit import with_values
from edge_agent.config.places import parse
from edge_agent.config.station import StationConfig
from edge_agent.detectors.header import read_header
from edge_agent.errors import CheckpointError, ConfigError, EdgeAgentError
from edge_agent.io.files import open_durably, write_durably
from edge_agent.line.calibration import Calibration, read_calibration
from edge_agent.settings.section import Loc

_CHECKPOINT, _CALIBRATION = ".safetensors", "-calibration.json"


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint beside that of a station. header: see detectors/header.py. sha256: of the file, hex."""

    path: Path
    header: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True)
class StationFiles:
    """Where a station has its files.

    config: config.yaml, links followed. number: of the station in it. checkpoint, calibration: as config.yaml names them, and
    the folder that they are in; calibration None: it has none. named_at: where in config.yaml the checkpoint is named.
    """

    config: Path
    number: int
    checkpoint: Path
    calibration: Path | None
    named_at: Loc

    def with_corrections(self, made: bytes, calibration: Calibration | None) -> Path:
        """Write a checkpoint and its calibration beside those that are there, then have config.yaml name them.

        Args:
            made: the content of the corrected bank's file.
            calibration: the station's present one; None where it has none.

        Returns:
            The checkpoint's file.

        Raises EdgeAgentError, also where config.yaml names another checkpoint by now; it is then as it was.
        """
        with self._alone():
            return self._with_corrections(made, calibration)

    def _with_corrections(self, made: bytes, calibration: Calibration | None) -> Path:
        base = re.sub(r"-\d+$", "", self.checkpoint.stem)
        number = self._last_number(base) + 1
        file = self.checkpoint.with_name(f"{base}-{number}{_CHECKPOINT}")
        with _write_errors(file.parent):
            write_durably(file, made)
        to = None
        if self.calibration and calibration:
            to = self.calibration.with_name(f"{base}-{number}{_CALIBRATION}")
            with _write_errors(to.parent):
                write_durably(to, _calibration_bytes(calibration, made))
        self._point_to(file, to)
        return file

    def back(self, which: str | None) -> Path:
        """Have config.yaml name an earlier checkpoint, and its calibration; see `earlier`. Return the checkpoint's file."""
        with self._alone():
            file, calibration = self.earlier(which)
            self._point_to(file, calibration)
            return file

    def earlier(self, which: str | None) -> tuple[Path, Path | None]:
        """Find an earlier checkpoint, and the calibration that was made with it.

        which: the checkpoint: its file's name, or the beginning of its digest; None: the parent of the present one.
        Raises EdgeAgentError.
        """
        there = self.checkpoints()
        present = next(one for one in there if one.path.samefile(self.checkpoint))
        wanted = which or str(present.header.get("parent_sha256", ""))
        if not wanted:
            raise EdgeAgentError(
                f"{self.checkpoint.name} was not made from an earlier one: there is nothing to go back to"
            )
        found = [one for one in there if one.path.name == wanted or one.sha256.startswith(wanted.lower())]
        if len(found) != 1:
            names = ", ".join(f"{one.path.name} ({one.sha256[:12]})" for one in there)
            raise EdgeAgentError(
                f"{which or wanted[:12]}: {'several checkpoints begin so' if found else 'no such checkpoint'} in"
                f" {self.checkpoint.parent}; there are {names}"
            )
        file, calibration = found[0].path, None
        if self.calibration:
            calibration = self._calibration_of(found[0].sha256)
            if calibration is None:
                raise EdgeAgentError(
                    f"{self.calibration.parent}: holds no calibration of {file.name} any more: calibrate again with it"
                )
        return file, calibration

    def checkpoints(self) -> Sequence[KeptCheckpoint]:
        """Return the checkpoints in the folder, in the order of their names."""
        found = []
        for path in sorted(self.checkpoint.parent.glob(f"*{_CHECKPOINT}")):
            try:
                found.append(KeptCheckpoint(path, read_header(path), hashlib.sha256(path.read_bytes()).hexdigest()))
            except (CheckpointError, OSError):  # somebody else's, or gone
                continue
        return found

    def require_writable(self) -> None:
        """Raise EdgeAgentError when config.yaml or a folder cannot be written, before anything is made."""
        for folder in {self.config.parent, self.checkpoint.parent, (self.calibration or self.checkpoint).parent}:
            if not os.access(folder, os.W_OK):
                raise EdgeAgentError(f"{folder}: user {os.geteuid()} may not write there: run the command as its owner")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from changing the station meanwhile, and make sure that nobody has."""
        with self.config.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise EdgeAgentError(
                    f"{self.config}: somebody else changes the station right now: try again"
                ) from error
            written = _value_at(parse(file.read().decode("utf-8-sig")).data, self.named_at)
            if Path(written).name != self.checkpoint.name:
                raise EdgeAgentError(
                    f"{self.config}: names {written} by now, no longer {self.checkpoint.name}: run the command again"
                )
            yield

    def _last_number(self, base: str) -> int:
        made = re.compile(rf"{re.escape(base)}(?:-(\d+))?(?:{re.escape(_CHECKPOINT)}|{re.escape(_CALIBRATION)})")
        folders = {self.checkpoint.parent, (self.calibration or self.checkpoint).parent}
        found = [made.fullmatch(one.name) for folder in folders for one in folder.iterdir()]
        return max((int(one[1] or 1) for one in found if one), default=0)

    def _calibration_of(self, checkpoint_sha256: str) -> Path | None:
        assert self.calibration is not None
        found: list[tuple[datetime, Path]] = []
        for path in self.calibration.parent.glob("*.json"):
            try:
                made = read_calibration(path)
            except ConfigError:
                continue
            if made.checkpoint_sha256 == checkpoint_sha256:
                found.append((made.created, path))
        return max(found)[1] if found else None

    def _point_to(self, checkpoint: Path, calibration: Path | None) -> None:
        """Have config.yaml name these files; whole or not at all, comments, mode and owner kept."""
        text = self.config.read_bytes().decode("utf-8-sig")
        data = parse(text).data
        values: dict[Loc, str] = {self.named_at: _renamed(_value_at(data, self.named_at), checkpoint)}
        if calibration:
            at = ("stations", self.number, "calibration")
            values[at] = _renamed(_value_at(data, at), calibration)
        edited = with_values(text, values)
        if edited is None:
            raise EdgeAgentError(
                f"{self.config}: the lines of stations[{self.number}] cannot be changed by themselves (written over several lines, or"
                " shared by an alias): write them by hand: "
                + ", ".join(f"{loc[-1]}: {value}" for loc, value in values.items())
            )
        before = self.config.stat()
        with _write_errors(self.config.parent), open_durably(self.config) as file:
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(edited.encode())


def station_files(config: Path, station: StationConfig) -> StationFiles:
    """Find the files of a station that has a checkpoint of its own. Raises EdgeAgentError where it has none."""
    folder, config = config.absolute().parent, config.resolve()  # relative paths start where a link to it is
    data = parse(config.read_bytes().decode("utf-8-sig")).data
    number = next(at for at, one in enumerate(data["stations"]) if one["name"] == station.name)
    if station.detector.checkpoint is None:
        raise EdgeAgentError(
            f"station {station.name} has no bank of good parts, so it cannot learn single corrections: `trainer station` makes it"
            " one, and `trainer calibrate` sets a new threshold"
        )
    written = data["stations"][number].get("calibration")
    calibration = None if written is None else folder / Path(written).expanduser()
    # A bank that looks together with another detector is the second of a list.
    at: Loc = ("together", 1, "checkpoint") if station.detector.together else ("checkpoint",)
    return StationFiles(config, number, station.detector.checkpoint, calibration, ("stations", number, "detector", *at))


def _value_at(data: Any, loc: Loc) -> str:
    for step in loc:
        data = data[step]
    return str(data)


def _renamed(written: str, file: Path) -> str:
    """Return a path as it is written in config.yaml with another file's name."""
    return f"{written[: len(written) - len(Path(written).name)]}{file.name}"


def _calibration_bytes(before: Calibration, made: bytes) -> bytes:
    """Return a calibration for a corrected bank: patches of good parts only lower scores, so its promise holds as it was."""
    now, sha256 = datetime.now(timezone.utc), hashlib.sha256(made).hexdigest()
    after = before.model_copy(
        update={"checkpoint_sha256": sha256, "created": now, "id": f"c-{now:%Y%m%d}-{sha256[:6]}"}
    )
    return after.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgeAgentError(
            f"{folder}: {error.strerror}: free some space, or let user {os.geteuid()} write there; the station is as it was"
        ) from error
