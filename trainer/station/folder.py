"""The folder of a station: its pictures, checkpoint, calibration, config.yaml and a page of what it gets wrong.

Files of an earlier station stay: each has a number in its name, and config.yaml, which is written last, names those in use.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from edge_agent import build
from edge_agent.config.detector import DetectorConfig
from edge_agent.config.edit import with_values
from edge_agent.config.places import parse
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.load import Loader
from edge_agent.io.files import write_durably, write_errors
from edge_agent.io.names import config_name
from edge_agent.settings.section import Loc
from trainer.calibrate.calibration import make_calibration, write_calibration
from trainer.calibrate.readings import Readings
from trainer.calibrate.setup import ReadingSetup
from trainer.io.whole_folder import beside, put
from trainer.station.before_after import SHEET
from trainer.station.choice import Measured
from trainer.station.page import station_page
from trainer.station.pictures import PictureSet

CONFIG, PAGE, INCOMING = "config.yaml", "wrong.html", "incoming"
PICTURES = "pictures"  # copies of those that the station was made from, as more are added to them later
GOOD, BAD = f"{PICTURES}/good", f"{PICTURES}/bad"
MEASURED = (
    "model",
    "method",
    "checkpoint",
    "image_size",
    "windows",
    "squares",
)  # keys of `detector` that are chosen anew


def require_own_folder(out: Path, name: str) -> None:
    """Raise EdgeAgentError when a station cannot have that name, or `out` is or holds anything but an earlier one of that name."""
    if config_name(name) != name:
        raise EdgeAgentError(f"--name {name}: wants letters, digits, - _ . alone, such as {config_name(name)}")
    if out.exists() and not out.is_dir():
        raise EdgeAgentError(f"{out}: is a file: name another --out")
    known = {CONFIG, PAGE, SHEET, INCOMING, PICTURES, f".{PICTURES}.unfinished", f".{PICTURES}.replaced", "data"}
    numbered = re.compile(rf"config-\d+\.yaml|{re.escape(name)}(-\d+)?(\.safetensors|-calibration\.json)")
    names = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    if strange := [one for one in names if one not in known and not numbered.fullmatch(one)]:
        raise EdgeAgentError(f"{out}: holds {strange[0]}, which this command did not make: name another --out")


def require_outside(folder: Path, out: Path) -> None:
    """Raise EdgeAgentError when a folder of pictures for a new station lies among those of the one that is in `out` now."""
    if folder.resolve().is_relative_to((out / PICTURES).resolve()):
        raise EdgeAgentError(f"{folder}: lies in the folder of the station itself: go on from it with --add {folder}")


def checkpoint_name(name: str, number: int = 1) -> str:
    """Return the file name of a station's checkpoint, the number-th that was made for it."""
    return f"{_numbered(name, number)}.safetensors"


def calibration_name(name: str, number: int = 1) -> str:
    """Return the file name of a station's calibration, the number-th that was made for it."""
    return f"{_numbered(name, number)}-calibration.json"


def earlier_config(out: Path, number: int) -> Path:
    """Return where the config.yaml is kept that named the number-th checkpoint and calibration."""
    return out / f"config-{number}.yaml"


def last_number(out: Path, name: str) -> int:
    """Return how many checkpoints or calibrations were made for a station; 0 for none."""
    made = re.compile(rf"{re.escape(name)}(?:-(\d+))?(?:\.safetensors|-calibration\.json)")
    found = [made.fullmatch(one.name) for one in out.iterdir()] if out.is_dir() else []
    return max((int(one[1] or 1) for one in found if one), default=0)


def write_station(
    out: Path,
    name: str,
    class_name: str,
    chosen: Measured,
    found: Sequence[Measured],
    pictures: PictureSet,
    loader: Loader,
    *,
    adding: bool = False,
    parent_sha256: str | None = None,
) -> None:
    """Write all files of a station; config.yaml comes last, so that it never names one that is not there.

    What else a config.yaml that is there says stays as it is, and it is kept beside the new one.

    Args:
        out: the folder; made if it is not there.
        name: of the station.
        class_name: what its pictures show.
        chosen: what it looks with.
        found: all that were measured, for the page.
        pictures: that they were measured on.
        loader: has the backbones.
        adding: keep the pictures that the folder has beside these; default: these are all.
        parent_sha256: digest (hex) of the checkpoint that a new one takes the place of; default none.

    Raises EdgeAgentError.
    """
    candidate, last = chosen.candidate, last_number(out, name)
    section: dict[str, Any] = copy.deepcopy(dict(candidate.section))
    file, calibrated = out / checkpoint_name(name, last + 1), out / calibration_name(name, last + 1)
    try:
        with (
            write_errors(out, "free some space, or name another --out"),
            _pictures_kept(out / PICTURES, pictures, adding),
        ):
            (out / INCOMING).mkdir(exist_ok=True)
            if candidate.checkpoint:
                parent = {"parent_sha256": parent_sha256} if parent_sha256 else {}
                made = Checkpoint({**candidate.checkpoint.header, **parent}, candidate.checkpoint.tensors)
                save_checkpoint(made, file)
                (section["together"][-1] if "together" in section else section)["checkpoint"] = file.name
            # As the agent will: the calibration names the digest of the file.
            own = DetectorConfig.model_validate(
                {"class_name": class_name, **section}, context={"folder": out.absolute()}
            )
            detector = build.detector(own, loader)
            readings = Readings(
                len(candidate.scores),
                candidate.scores,
                candidate.peaks,
                candidate.brightness,
                candidate.contrast,
                pictures.copies,
                pictures.skipped,
            )
            calibration = make_calibration(
                ReadingSetup(detector, class_name), readings, chosen.rate, at_least=chosen.threshold
            )
            write_calibration(calibration, calibrated)
            page = station_page(name, chosen, found, pictures, calibration.map_threshold or 1.0)
            write_durably(out / PAGE, page.encode())
            before = (out / CONFIG).read_text("utf-8-sig") if (out / CONFIG).is_file() else None
            if before is not None:
                write_durably(earlier_config(out, last), before.encode())
            write_durably(out / CONFIG, config_text(before, name, class_name, section, calibrated.name).encode())
    except BaseException:
        if not _names(out / CONFIG, calibrated):
            file.unlink(missing_ok=True)
            calibrated.unlink(missing_ok=True)
        raise


def _names(config: Path, calibration: Path) -> bool:
    """Whether a config.yaml is there and names a calibration."""
    return config.is_file() and calibration.name in config.read_text("utf-8-sig")


def config_text(before: str | None, name: str, class_name: str, section: Mapping[str, Any], calibration: str) -> str:
    """Return the text of a config.yaml in which a station looks with what was chosen.

    Args:
        before: text of the config.yaml that is there; all that it says besides stays. None: a new one.
        name: of the station.
        class_name: what its pictures show.
        section: of `detector`, what was chosen.
        calibration: name of its file.
    """
    station: dict[str, Any] = {"name": name, "source": {"folder": INCOMING}}
    data: dict[str, Any] = {"agent": {"data_dir": "data"}, "stations": [station]}
    written = parse(before).data if before else None
    stations = written.get("stations") if isinstance(written, dict) else None
    own = next((one for one in stations or [] if isinstance(one, dict) and one.get("name") == name), None)
    if written is None or own is None:
        before = None
    else:
        data, station = written, own
    kept = {key: value for key, value in (station.get("detector") or {}).items() if key not in MEASURED}
    station["detector"] = {**kept, "class_name": class_name, **section}
    station["calibration"] = calibration
    if before is not None and (edited := _edited(before, data, name)):
        return edited
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return f"# Made by `trainer station`. Every setting: see config.yaml of the package.\n{text}"


def _edited(text: str, wanted: Mapping[str, Any], name: str) -> str | None:
    """Return a config's text with the values of one station replaced where they stand, and its comments kept.

    Returns None where that is not enough to make it say `wanted`.
    """
    at = next(number for number, one in enumerate(wanted["stations"]) if one["name"] == name)
    station = wanted["stations"][at]
    values: dict[Loc, str] = {("stations", at, "calibration"): str(station["calibration"])}
    own = station["detector"]
    values |= {("stations", at, "detector", key): one for key, one in own.items() if isinstance(one, str)}
    edited = with_values(text, values)
    return edited if edited and parse(edited).data == wanted else None


@contextmanager
def _pictures_kept(folder: Path, pictures: PictureSet, adding: bool) -> Iterator[None]:
    """Copy the pictures that a station is made from, as they may be gone when more are added.

    Those of an earlier station go when the block has ended without an error. Raises OSError.

    Args:
        folder: where they go.
        pictures: the good ones, and the defective ones that are not painted.
        adding: keep what is there beside these, from the beginning on.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    kinds = {
        "good": dict(zip(pictures.paths, (one.sha256 for one in pictures.good), strict=True)),
        "bad": {one.path: one.sha256 for one in pictures.bad if one.painted_on is None},
    }
    if adding:
        for kind, files in kinds.items():
            _copy(files, folder / kind)
        yield
        return
    with beside(folder) as work:
        for kind, files in kinds.items():
            _copy(files, work / kind)
        yield
        put(folder)


def _copy(files: Mapping[Path, str], folder: Path) -> None:
    """Copy files, given with their SHA-256 (hex), into a folder, but for those that are in it; equal names get a part of that."""
    for path, digest in files.items():
        if path.resolve().is_relative_to(folder.resolve()):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / path.name
        if target.exists():
            target = folder / f"{path.stem}-{digest[:8]}{path.suffix}"
        unfinished = target.with_name(f".{target.name}.tmp")
        try:
            shutil.copyfile(path, unfinished)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
