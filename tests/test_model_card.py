"""The model card's tables are those of the recorded measurement, which is of the shipped weights."""

from __future__ import annotations

import hashlib

from benchmarks.shipped import CARD, recorded, with_tables
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import load_checkpoint


def test_the_tables_of_the_card_are_made_of_the_recorded_figures():
    card = CARD.read_text()
    assert with_tables(card, recorded()) == card, "run: make card DATA=DIR"


def test_the_recorded_figures_are_of_the_weights_and_prompts_that_are_shipped():
    own = load_checkpoint(EMBEDDED_FOLDER / "tipsomaly.safetensors")
    assert recorded()["checkpoint_sha256"] == own.sha256, "the prompts changed: run: make card DATA=DIR"
    assert recorded()["model_sha256"] == own.header["backbone_sha256"], "the weights changed: run: make card DATA=DIR"
    assert recorded()["procedural"] == own.header["metrics"]
    vision = hashlib.sha256((EMBEDDED_FOLDER / "vision.npz").read_bytes()).hexdigest()
    assert vision in (EMBEDDED_FOLDER / "SHA256SUMS").read_text()
