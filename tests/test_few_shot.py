"""`trainer evaluate --shots`: a memory of a few good pictures, none of them measured, over several draws, at promised rates."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.detectors.checkpoint import save_checkpoint
from edge_agent.detectors.clip.afclip import AfClip
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.load import Loader
from tests.test_memory import checkpoint_of
from tests.test_station import part
from tests.tiny_clip import saved
from trainer.cli import main
from trainer.data.examples import Example
from trainer.few_shot.measure import Pool

SIDE = 96


def written(place: Path, pictures: list[np.ndarray]) -> list[Path]:
    place.mkdir(parents=True)
    paths = [place / f"{number}.png" for number in range(len(pictures))]
    for path, pixels in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), pixels)
    return paths


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """A set of eight good training pictures, one of them also among the three good ones to be measured, and three defective."""
    place = tmp_path_factory.mktemp("set")
    written(place / "disc/train/good", [part(seed) for seed in range(8)])
    written(place / "disc/test/good", [part(0), part(20), part(21)])
    written(place / "disc/test/hole", [part(seed, lacking=True) for seed in range(30, 33)])
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[50:80, 50:80] = 255
    written(place / "disc/ground_truth/hole", [mask] * 3)
    return place


def pool_of(place: Path, *, training: bool = True) -> Pool:
    def examples(split: str) -> list[Example]:
        return [Example("disc", path.parent.name, path) for path in sorted((place / "disc" / split).rglob("*.png"))]

    return Pool.of(examples("test"), examples("train") if training else [], [])


def test_a_picture_that_is_shown_is_not_measured_nor_is_its_copy(parts):
    pool = pool_of(parts)
    shown, measured = pool.draw("disc", 8, 0)
    assert len(shown) == 8
    assert [one.picture.name for one in measured if not one.defective] == ["1.png", "2.png"]
    assert sum(one.defective for one in measured) == 3


def test_without_training_pictures_those_that_are_drawn_are_taken_out_of_the_good_ones(parts):
    pool = pool_of(parts, training=False)
    pool.require("disc", 2)
    shown, measured = pool.draw("disc", 2, 0)
    assert not {one.picture for one in shown} & {one.picture for one in measured}
    assert len(measured) == 4
    with pytest.raises(EdgeAgentError, match=r"disc: has 3 different good pictures to draw 3 from.*lower --shots"):
        pool.require("disc", 3)


def test_every_draw_shows_other_pictures_and_the_same_seed_the_same(parts):
    pool = pool_of(parts)
    draws = [[one.picture.name for one in pool.draw("disc", 4, seed)[0]] for seed in range(6)]
    assert len({tuple(one) for one in draws}) > 3
    assert draws == [[one.picture.name for one in pool.draw("disc", 4, seed)[0]] for seed in range(6)]


def test_the_command_gives_mean_and_spread_and_what_promised_rates_miss(parts, tmp_path, capsys):
    out = tmp_path / "few.json"
    command = ["evaluate", "--data", str(parts), "--method", "patchcore", "--model", "efficientnet-lite0"]
    assert main([*command, "--image-size", "96", "--shots", "4", "--draws", "2", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mean ± standard deviation of 2 draws of 4 good pictures" in said
    assert "so few good pictures cannot promise 1 % or 5 % false alarms" in said
    record = json.loads(out.read_text())
    disc = record["categories"]["disc"]
    assert disc["from_training"]
    assert disc["figures"]["image_auroc"]["lowest"] > 90
    assert disc["figures"]["pixel_auroc"]["mean"] > 80
    first, second = disc["draws"]
    assert len(first["shown"]) == 4
    assert first["shown"] != second["shown"]
    for draw in disc["draws"]:
        strict, loose = draw["points"]
        assert (strict["rate"], loose["rate"]) == (0.01, 0.05)
        assert strict["threshold"] >= loose["threshold"]
        assert strict["missed"] >= loose["missed"]
        assert strict["defective"] == 3
        assert strict["good"] == (2 if "disc/train/good/0.png" in draw["shown"] else 3)


def test_a_fitted_checkpoint_is_measured_with_memories_too(parts, tmp_path, capsys):
    backbone = saved(tmp_path)
    save_checkpoint(checkpoint_of(AfClip(Loader().backbone(backbone))), tmp_path / "fitted.safetensors")
    command = ["evaluate", "--data", str(parts), "--checkpoint", str(tmp_path / "fitted.safetensors")]
    assert main([*command, "--model", backbone, "--image-size", "48", "--shots", "1", "--draws", "1"]) == 0
    assert (
        "afclip/clip:ViT-tiny-8; percent; mean ± standard deviation of 1 draw of 1 good picture"
        in capsys.readouterr().out
    )


def test_what_says_too_little_is_refused_with_the_remedy(parts, capsys):
    command = ["evaluate", "--data", str(parts)]
    for more, said in (
        (["--method", "patchcore"], "--method patchcore needs --shots K"),
        (["--draws", "3"], "--draws needs --shots K"),
        (["--shots", "4"], "name it with --method"),
        (["--shots", "4", "--method", "patchcore", "--baseline"], "--baseline cannot be given with --shots"),
    ):
        assert main([*command, *more]) == 1
        assert said in capsys.readouterr().err
