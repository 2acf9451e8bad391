"""What is measured of a detector: every figure with its interval, broken pictures named, sets without masks or without defects."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import EdgeAgentError
from trainer.cli import main
from trainer.data import read_examples
from trainer.evaluate import LocalContrast, evaluate
from trainer.metrics import FIGURES


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """Six gray plates, half of them with a bright square, and one more file that is no whole picture."""
    draw = np.random.default_rng(0)
    for kind in ("good", "dent"):
        (tmp_path / "plate/test" / kind).mkdir(parents=True)
        for number in range(3):
            plate, mask = draw.integers(90, 110, (64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
            if kind == "dent":
                plate[10:20, 30:40], mask[10:20, 30:40] = 250, 255
                (tmp_path / "plate/ground_truth/dent").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / f"plate/ground_truth/dent/{number}_mask.png"), mask)
            cv2.imwrite(str(tmp_path / f"plate/test/{kind}/{number}.png"), plate)
    (tmp_path / "plate/test/good/broken.png").write_bytes((tmp_path / "plate/test/good/0.png").read_bytes()[:500])
    return tmp_path


def test_every_figure_has_an_interval_that_holds_it_and_broken_pictures_are_named(plates):
    result = evaluate(LocalContrast(), read_examples(plates))
    assert (result.good, result.defective) == (3, 3)
    assert [one.path.name for one in result.skipped] == ["broken.png"]
    assert list(result.figures) == list(FIGURES)
    for name, figure in result.figures.items():
        assert figure.low - 0.5 <= figure.value <= figure.high + 0.5, name
    assert result.image_auroc == 100
    assert result.pixel_auroc > 95


def test_the_same_pictures_give_the_same_intervals(plates):
    first, second = (evaluate(LocalContrast(), read_examples(plates)) for _ in range(2))
    assert first.figures == second.figures


def test_without_masks_there_is_nothing_of_pixels_and_without_defects_nothing_at_all(plates):
    for mask in plates.glob("plate/ground_truth/dent/*"):
        mask.unlink()
    result = evaluate(LocalContrast(), read_examples(plates))
    assert result.image_auroc == 100
    assert math.isnan(result.pixel_auroc)
    good = [one for one in read_examples(plates) if not one.defective]
    assert all(math.isnan(figure.value) for figure in evaluate(LocalContrast(), good).figures.values())


def test_a_set_of_broken_pictures_alone_is_an_error(plates):
    broken = [one for one in read_examples(plates) if one.picture.name == "broken.png"]
    with pytest.raises(EdgeAgentError, match="none of its 1 pictures can be read"):
        evaluate(LocalContrast(), broken)


def test_the_command_prints_a_row_a_category_and_a_mean(plates, capfd):
    assert main(["evaluate", "--data", str(plates), "--baseline"]) == 0
    told = capfd.readouterr()
    assert "broken.png" in told.err
    rows = told.out.splitlines()
    assert sum(row.startswith("plate") for row in rows) == 2
    assert sum(row.startswith("mean") for row in rows) == 2
    assert "100.0-100.0" in told.out
