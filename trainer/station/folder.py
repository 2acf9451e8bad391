"""The folder of a station: checkpoint, calibration, config.yaml and a page of what it gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from edge_agent.detectors.checkpoint import load_checkpoint, save_checkpoint
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.squares import SquaresDetector
from edge_agent.io.names import config_name
from trainer.calibrate.calibration import make_calibration, write_calibration
from trainer.calibrate.readings import Readings
from trainer.calibrate.setup import ReadingSetup
from trainer.io.files import write_errors, write_whole
from trainer.station.choice import Measured
from trainer.station.page import station_page
from trainer.station.pictures import PictureSet

CONFIG, PAGE, INCOMING = "config.yaml", "wrong.html", "incoming"


def require_own_folder(out: Path, name: str) -> None:
    """Raise EdgeAgentError when a station cannot have that name, or `out` is or holds anything but an earlier one of that name."""
    if config_name(name) != name:
        raise EdgeAgentError(f"--name {name}: wants letters, digits, - _ . alone, such as {config_name(name)}")
    if out.exists() and not out.is_dir():
        raise EdgeAgentError(f"{out}: is a file: name another --out")
    known = {CONFIG, PAGE, INCOMING, "data", checkpoint_name(name), calibration_name(name)}
    if out.is_dir() and (strange := sorted(one.name for one in out.iterdir() if one.name not in known)):
        raise EdgeAgentError(f"{out}: holds {strange[0]}, which this command did not make: name another --out")


def checkpoint_name(name: str) -> str:
    """Return the file name of a station's bank."""
    return f"{name}.safetensors"


def calibration_name(name: str) -> str:
    """Return the file name of a station's calibration."""
    return f"{name}-calibration.json"


def write_station(
    out: Path, name: str, class_name: str, chosen: Measured, found: Sequence[Measured], pictures: PictureSet
) -> None:
    """Write all files of a station; config.yaml comes last, so that it never names one that is not there.

    Args:
        out: the folder; made if it is not there.
        name: of the station.
        class_name: what its pictures show.
        chosen: what it looks with.
        found: all that were measured, for the page.
        pictures: that they were measured on.

    Raises EdgeAgentError.
    """
    section: dict[str, object] = {"class_name": class_name, **chosen.candidate.section}
    with write_errors(out, "free some space, or name another --out, and run the command again"):
        (out / INCOMING).mkdir(parents=True, exist_ok=True)
        detector = chosen.candidate.detector
        if chosen.candidate.checkpoint:
            file = out / checkpoint_name(name)
            save_checkpoint(chosen.candidate.checkpoint, file)
            # The calibration names the digest of the file.
            backbone = Loader().backbone(str(chosen.candidate.section["model"]))
            detector = SquaresDetector(PromptDetector(backbone, load_checkpoint(file), class_name))
            section["checkpoint"] = file.name
    candidate = chosen.candidate
    readings = Readings(
        len(candidate.scores),
        candidate.scores,
        candidate.peaks,
        candidate.brightness,
        candidate.contrast,
        pictures.copies,
        pictures.skipped,
    )
    calibration = make_calibration(ReadingSetup(detector, class_name), readings, chosen.rate, at_least=chosen.threshold)
    write_calibration(calibration, out / calibration_name(name))
    write_whole(out / PAGE, station_page(name, chosen, found, pictures, calibration.map_threshold or 1.0).encode())
    station = {
        "name": name,
        "source": {"folder": INCOMING},
        "detector": section,
        "calibration": calibration_name(name),
    }
    text = yaml.safe_dump({"agent": {"data_dir": "data"}, "stations": [station]}, sort_keys=False, allow_unicode=True)
    write_whole(
        out / CONFIG, f"# Made by `trainer station`. Every setting: see config.yaml of the package.\n{text}".encode()
    )
