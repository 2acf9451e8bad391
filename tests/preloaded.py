"""Imported once by the server that test processes are forked from (agent.forks): what an agent imports as it starts.

Only code: no model is loaded, no thread started and no file kept open, so that a forked process does all of that itself.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import PIL.Image

from edge_agent.config.load import load_config

IMPORTED = (
    "alembic.command",
    "edge_agent.backbones.tips.model",
    "edge_agent.daemon",
    "edge_agent.detectors.tipsomaly",
    "edge_agent.health.server",
    "edge_agent.mqtt.sender",
    "edge_agent.replay.session",
    "edge_agent.sources.camera.source",
    "edge_agent.sources.folder.source",
    "numpy.random",
    "tests.forked",
    "tests.line",
    "trainer.cli",
    "trainer.fit.checkpoint",
)

for name in IMPORTED:
    import_module(name)
with suppress(ImportError):
    import_module("psycopg")
PIL.Image.preinit()
load_config(Path(__file__).parents[1] / "config.yaml")  # pydantic builds what validates a config when it is first used
