"""The detector and the settings that good pictures are read with: a station's, or those that a command line names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent import build
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.config.load import load_config
from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import class_name_of
from edge_agent.inference.load import Loader
from edge_agent.line.calibration import Polygons


@dataclass(frozen=True, slots=True, eq=False)
class ReadingSetup:
    """The detector and the settings that a station reads its pictures with.

    class_name, include, ignore: as in the station's config. keep: the mask made of the polygons, see core.Detector.
    max_megapixels, bit_depth: see pictures.decode. batch: number of pictures that the detector reads at once.
    """

    detector: Detector
    class_name: str
    include: Polygons = ()
    ignore: Polygons = ()
    keep: np.ndarray | None = None
    max_megapixels: float = 100
    bit_depth: int | None = None
    batch: int = 8


def setup_of_station(config_file: Path, name: str | None) -> ReadingSetup:
    """Read pictures as a station of a config file does. name: needed when the file has several. Raises EdgeAgentError."""
    config = load_config(config_file)
    station = config.station(name)
    # The station's present calibration is left out: the new one may replace it, and it need not fit the checkpoint.
    built = build.station(station.model_copy(update={"calibration": None}), build.loader(config), config.sha256)
    return ReadingSetup(
        built.detector,
        station.detector.class_name,
        station.include,
        station.ignore,
        built.keep,
        max_megapixels=config.limits.max_megapixels,
        bit_depth=station.source.stored_bit_depth,
        batch=config.limits.batch_size,
    )


def setup_of_model(
    model: str | None = None,
    checkpoint: Path | None = None,
    *,
    method: str | None = None,
    class_name: str | None = None,
    image_size: int | None = None,
    windows: int | None = None,
) -> ReadingSetup:
    """Read whole pictures with a model.

    Args:
        model: a backbone of the catalogue, or its folder; default "embedded".
        checkpoint: prompts fitted for it; default those that come with the embedded model.
        method: one that needs no checkpoint, in place of one.
        class_name: what the pictures show; default what the checkpoint was fitted on, "object" without one.
        image_size: side in pixels at which they are read; default as fitted.
        windows: windows read besides, along each side; default 1, none.

    Raises EdgeAgentError when the model or checkpoint cannot be loaded.
    """
    loader, class_name = Loader(), class_name or class_name_of(checkpoint)
    whole = loader.detector(model or EMBEDDED, checkpoint, class_name, method=method, image_size=image_size)
    return ReadingSetup(loader.arranged(whole, windows or 1), class_name)
