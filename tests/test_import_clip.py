"""What the authors of methods on CLIP publish is imported from the command line, and inspects as it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.backbones.clip.model import Clip
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.importing import adaclip, afclip, aprilgan, bayespfl, vcpclip
from edge_agent.importing import object_prompts as objects
from edge_agent.inference.load import Loader
from tests import tiny_clip
from trainer.cli import main


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    """The name of a small CLIP in a file."""
    return tiny_clip.saved(tmp_path_factory.mktemp("clip"), tiny_clip.EVEN)


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def af_clip(clip: Clip) -> dict:
    own = drawn(afclip.published_shapes(clip, 12))
    return {afclip.PROMPT: own.pop(afclip.PROMPT), afclip.ADAPTER: own}


def april_gan(clip: Clip) -> dict:
    return {aprilgan.MAPS: drawn(aprilgan.published_shapes(clip))}


def vcp_clip(clip: Clip) -> dict:
    parts = {part: drawn(shapes) for part, shapes in vcpclip.published_shapes(clip).items()}
    tower = parts.pop(vcpclip.FIRST)
    return {**tower, "visual.conv1.weight": torch.zeros(2), **parts}


def bayes_pfl(clip: Clip) -> dict:
    own = drawn(bayespfl.published_shapes(clip))
    return {bayespfl.MODEL: own | {name: torch.zeros(2) for name in ("PFL_normal.p_mu.0.weight", "state_decoder.x")}}


def ada_clip(clip: Clip) -> dict:
    return {
        f"{adaclip.MODEL}{name}": value for name, value in drawn(adaclip.published_shapes(clip, clip.depth)).items()
    }


def object_prompts(kind: objects.Kind, *more: str, **shapes: tuple[int, ...]):
    """What one of the methods on object prompts publishes, with `more` tensors that nothing reads."""

    def content(clip: Clip) -> dict:
        known = {name: torch.zeros(*shape, clip.text_width) for name, shape in shapes.items()}
        known |= {f"{objects.DEEP}.{number}": torch.zeros(4, clip.text_width) for number in range(8)}
        own = drawn(objects.published_shapes(kind, known, clip))
        return {objects.PROMPTS: own | {name: torch.zeros(2) for name in more}}

    return content


PAIR, UNREAD = {"ctx_pos": (1, 1, 12), "ctx_neg": (1, 1, 12)}, ("token_prefix_pos", "tokenized_prompts_neg")
LOCAL = {f"ctx_{place}_{state}": (1, 1, 13) for place in ("global", "local") for state in ("pos", "neg")}
PUBLISHED = {
    "afclip": af_clip,
    "aprilgan": april_gan,
    "vcpclip": vcp_clip,
    "bayespfl": bayes_pfl,
    "adaclip": ada_clip,
    "anomalyclip": object_prompts(objects.ANOMALYCLIP, f"{objects.PROJECTIONS}.0.weight", *UNREAD, **PAIR),
    "crane": object_prompts(objects.CRANE, *UNREAD, **PAIR),
    "craneplus": object_prompts(objects.CRANEPLUS, *UNREAD, **PAIR),
    "glocalclip": object_prompts(objects.GLOCALCLIP, *UNREAD, **LOCAL),
    "faprompt": object_prompts(objects.FAPROMPT, *UNREAD, ctx_pos=(1, 1, 5), ctx_neg=(1, 10, 2)),
}


@pytest.fixture(params=PUBLISHED)
def method(request) -> str:
    return request.param


def published(method: str, backbone: str, path: Path) -> dict:
    """A file as the authors publish it; its content."""
    content = PUBLISHED[method](Loader().backbone(backbone))
    torch.save(content, path)
    return content


def imported(method: str, backbone: str, path: Path, out: Path) -> int:
    command = ["import", "--method", method, "--from", str(path), "--out", str(out), "--backbone", backbone]
    return main([*command, "--image-size", "32"])


def test_it_is_imported_and_inspects(method, backbone, tmp_path, capsys):
    published(method, backbone, tmp_path / "authors.pth")
    out = tmp_path / "own.safetensors"
    assert imported(method, backbone, tmp_path / "authors.pth", out) == 0
    assert "not measured: calibrate" in capsys.readouterr().out
    assert load_checkpoint(out).header["method"] == method
    detector = Loader().detector(backbone, out)
    dark, light = detector.read([np.full((40, 40, 3), level, np.uint8) for level in (10, 240)])
    assert dark.score != light.score
    assert 0 <= dark.heatmap.min() <= dark.heatmap.max() <= 1


def test_what_does_not_fit_is_named(method, backbone, tmp_path, capsys):
    content = published(method, backbone, tmp_path / "authors.pth")
    last = content[list(content)[-1]]
    part = last if isinstance(last, dict) else content
    name = list(part)[1]
    said = name.removeprefix(adaclip.MODEL)
    part[name] = part[name][..., :-1]
    torch.save(content, tmp_path / "authors.pth")
    assert imported(method, backbone, tmp_path / "authors.pth", tmp_path / "own.safetensors") == 1
    assert f"{said} is " in capsys.readouterr().err
    del part[name]
    torch.save(content, tmp_path / "authors.pth")
    assert imported(method, backbone, tmp_path / "authors.pth", tmp_path / "own.safetensors") == 1
    assert f"{said} is missing" in capsys.readouterr().err
