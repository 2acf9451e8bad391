"""A bank of good parts can be made on every kind of backbone: it builds, is written and loaded, and reads pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.model import TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.detectors.checkpoint import load_checkpoint, save_checkpoint
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from tests.drilled import folder, part
from tests.tiny_clip import saved, tiny_clip
from trainer.bank.bank import make_bank
from trainer.bank.good_picture import GoodPicture
from trainer.cli import main


def tips() -> Tips:
    """Random, of three blocks."""
    torch.manual_seed(0)
    tower, text = VisionTower(VisionShape(64, 3, 128, 4)), TextTower(TextShape(64, 1, 128, 32000))
    return (
        Tips(tower, text, Tokenizer(EMBEDDED_FOLDER / "tokenizer.model"), 0.02, "tips-tiny")
        .eval()
        .requires_grad_(False)
    )


@pytest.mark.parametrize(
    ("build", "side"),
    [(tips, 56), (tiny_clip, 40), (partial(Loader().backbone, "embedded"), 64)],
    ids=["tips", "clip", "embedded"],
)
def test_a_bank_is_made_written_loaded_and_reads(tmp_path, build: Callable[[], Backbone], side: int):
    backbone = build()
    good = [GoodPicture(f"{seed}", f"{seed:064}", partial(part, seed)) for seed in range(3)]
    made = make_bank(backbone, good, image_size=side, size=100)
    save_checkpoint(made.checkpoint, tmp_path / "bank.safetensors")
    detector = PromptDetector(backbone, load_checkpoint(tmp_path / "bank.safetensors"), "object")
    shown, other = detector.read([part(0), part(50)[::-1, :, ::-1].copy()])
    assert shown.score < other.score <= 1
    assert shown.heatmap.shape == (side, side)
    assert shown.heatmap.max() < 0.5


@pytest.mark.parametrize("model", ["embedded", "clip"])
def test_the_command_takes_any_model(tmp_path: Path, capsys, model: str):
    name = saved(tmp_path) if model == "clip" else model
    good = str(folder(tmp_path / "good", [part(0), part(1)]))
    command = [
        "bank",
        "--good",
        good,
        "--method",
        "patchcore",
        "--model",
        name,
        "--out",
        str(tmp_path / "bank.safetensors"),
    ]
    assert main([*command, "--size", "200"]) == 0
    assert f"for the model {name.partition('@')[0]}: its threshold" in capsys.readouterr().out
    detector = Loader().detector(name, tmp_path / "bank.safetensors")
    assert detector.read([part(0)])[0].score < 0.5
