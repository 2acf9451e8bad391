"""A station with a small bank of drilled parts, its journal and the pictures that it kept, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge_agent import build
from edge_agent.backbones.weights.digests import measure
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation, Frame
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.inference.load import Loader
from edge_agent.journal.journal import Journal
from edge_agent.line.calibration import Calibration
from edge_agent.line.inspect import inspect
from tests.drilled import part
from tests.line import NOON
from trainer.bank.bank import make_bank
from trainer.bank.good_picture import GoodPicture

TRUNK = "efficientnet-lite0"


@dataclass(frozen=True)
class Taught:
    """config: its file. url: of the journal. ids: of the inspections by the names of the pictures."""

    config: Path
    url: str
    ids: dict[str, str]


def bank(loader: Loader) -> Checkpoint:
    """Make a bank of three drilled parts."""
    good = [GoodPicture(f"{seed}", f"{seed:064}", partial(part, seed)) for seed in range(3)]
    return make_bank(loader.backbone(TRUNK), good, size=400).checkpoint


def taught_station(
    folder: Path, loader: Loader, bank: Checkpoint, pictures: Mapping[str, np.ndarray], threshold: float = 0.5
) -> Taught:
    """Make the station, and have it inspect pictures, all of which are kept.

    Args:
        folder: where its files go.
        loader: of the trunk.
        bank: what it looks with.
        pictures: by name.
        threshold: of its calibration.

    With `together` in the bank's header it looks with the embedded model, too.
    """
    save_checkpoint(bank, folder / "cam1.safetensors")
    looks = (
        "together: [{model: embedded}, {model: efficientnet-lite0, checkpoint: cam1.safetensors}]"
        if "together" in bank.header
        else "model: efficientnet-lite0\n      checkpoint: cam1.safetensors  # made in November"
    )
    made = load_checkpoint(folder / "cam1.safetensors")
    calibration = Calibration.model_validate(
        {
            "schema": "edge-agent/calibration/1",
            "id": "c-1",
            "threshold": threshold,
            "map_threshold": 0.5,
            "false_alarm_rate": 0.05,
            "good_pictures": 20,
            "model_sha256": made.header["backbone_sha256"],
            "checkpoint_sha256": measure(folder / "cam1.safetensors")["sha256"],
            "image_size": made.header["image_size"],
            "squares": True,
            "created": "2026-11-20T08:00:00Z",
        },
        strict=False,
    )
    (folder / "cam1-calibration.json").write_text(calibration.model_dump_json(by_alias=True))
    (folder / "in").mkdir()
    config_file = folder / "config.yaml"
    config_file.write_text(
        "# our line\nagent: {data_dir: data}\nevidence: {originals: all, overlays: none}\nstations:\n  - name: cam1\n"
        f"    source: {{folder: in}}\n    detector:\n      {looks}\n    calibration: cam1-calibration.json\n"
    )
    config = load_config(config_file)
    station = build.station(config.stations[0], loader, config.sha256)
    store = build.evidence_store(config.evidence)
    ids = {}
    with closing(Journal.open(config.database.full_url())) as journal:
        for name, pixels in pictures.items():
            (inspection,) = inspect([Frame("cam1", 0, NOON, pixels, part_id=name)], {"cam1": station}, {})
            journal.record(inspection, store.save(inspection), [])
            ids[name] = inspection.id
    return Taught(config_file, config.database.full_url(), ids)


def verdicts(taught: Taught, loader: Loader, pictures: Iterable[np.ndarray]) -> list[bool]:
    """Whether the station, as its config.yaml has it now, calls these pictures NotOK."""
    config = load_config(taught.config)
    station = build.station(config.stations[0], loader, config.sha256)
    found = inspect([Frame("cam1", 0, NOON, pixels) for pixels in pictures], {"cam1": station}, {})
    return [one.verdict.evaluation is Evaluation.NOT_OK for one in found]


def dusty(seed: int) -> np.ndarray:
    """A good part with a bright thread lying on it, which no good part in the bank has."""
    pixels = part(seed)
    cv2.line(pixels, (30, 30), (44, 22), (250, 250, 250), 2)
    return pixels


def scratched(seed: int, *, thread: bool = False) -> np.ndarray:
    """A defective part: a dark scratch at its lower edge. thread: with the thread of dusty() besides."""
    pixels = dusty(seed) if thread else part(seed)
    cv2.line(pixels, (34, 62), (60, 72), (90, 20, 20), 3)
    return pixels


def labels_file(place: Path, rows: list[dict[str, object]]) -> Path:
    """Write a JSON file of labels."""
    place.write_text(json.dumps(rows))
    return place
