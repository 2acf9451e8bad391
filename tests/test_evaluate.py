"""What is measured of a detector: every figure with its interval, broken pictures named, sets without masks or without defects."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.errors import EdgeAgentError
from trainer.calibrate.setup import setup_of_model
from trainer.cli import main
from trainer.data.examples import read_examples
from trainer.evaluate.compare import compare
from trainer.evaluate.local_contrast import LocalContrast
from trainer.evaluate.measure import evaluate
from trainer.evaluate.metrics import FIGURES, IMAGE_FIGURES
from trainer.evaluate.record import EvaluationRecord, read_evaluation


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


def evaluated(plates: Path, out: Path, *more: str) -> EvaluationRecord:
    """What the command writes."""
    assert main(["evaluate", "--data", str(plates), "--json", str(out), *more]) == 0
    return read_evaluation(out)


def test_the_command_prints_a_row_a_category_and_detector_and_names_what_it_skipped(plates, capfd):
    assert main(["evaluate", "--data", str(plates), "--baseline"]) == 0
    told = capfd.readouterr()
    assert "warning: plate: skipped test/good/broken.png" in told.err
    assert "warning: 1 picture skipped" in told.err
    rows = told.out.splitlines()
    assert sum(row.startswith("plate ") for row in rows) == 2
    assert "100.0-100.0" in told.out
    assert "3 of 3 defective pictures found, 0 of 3 good ones called defective" in told.out


def test_the_file_holds_all_that_the_figures_rest_on(plates, tmp_path):
    one = evaluated(plates, tmp_path / "a.json", "--baseline", "--class-name", "steel plate")
    assert one.baseline is not None
    assert one.baseline.detector == "local contrast"
    assert one.measured.class_name == "steel plate"
    assert len(one.measured.model_sha256) == len(one.measured.checkpoint_sha256) == 64
    assert one.measured.size == one.baseline.size == 224
    plate = one.measured.categories["plate"]
    assert (plate.good, plate.defective, plate.regions, plate.vanished) == (3, 3, 3, 0)
    assert {picture.path for picture in plate.pictures} == {
        f"test/{kind}/{number}.png" for kind in ("good", "dent") for number in range(3)
    }
    assert [left.path for left in plate.skipped] == ["test/good/broken.png"]
    assert set(plate.class_tokens) == {"1", "2"}
    assert all(len(plate.draws[name]) == one.draws for name in FIGURES)
    scores = {picture.path: picture.score for picture in plate.pictures}
    found = sum(scores[f"test/dent/{number}.png"] >= plate.threshold for number in range(3))
    assert plate.found == found


def test_windows_are_evaluated_at_their_own_size(plates, tmp_path):
    one = evaluated(plates, tmp_path / "a.json", "--windows", "2")
    assert one.measured.size == 336
    assert (one.measured.image_size, one.measured.windows) == (224, 2)
    (note,) = compare(evaluated(plates, tmp_path / "b.json", "--size", "336"), one).notes
    assert note.startswith("A read pictures at 224 pixels, B at 224 pixels and in 2 x 2 windows: ")
    assert one.measured.categories["plate"].figures["image_auroc"].value == 100
    with pytest.raises(SystemExit):
        main(["evaluate", "--data", str(plates), "--windows", "9"])


def test_what_has_no_figure_is_null_and_a_dash(plates, tmp_path, capfd):
    for mask in plates.glob("plate/ground_truth/dent/*"):
        mask.unlink()
    one = evaluated(plates, tmp_path / "a.json")
    assert one.measured.mean.figures["pixel_auroc"].value is None
    assert one.measured.mean.figures["image_auroc"].value is not None
    row = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("plate "))
    assert row.split()[-5:-1] == ["-"] * 4


def test_a_file_that_is_no_evaluation_is_refused_with_the_place(plates, tmp_path):
    evaluated(plates, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    for content, said in (
        (text.replace("evaluation/1", "evaluation/2"), "schema"),
        (text.replace('"good": 3', '"good": "some"', 1), "measured.categories.plate.good"),
        ("[1", "Invalid JSON"),
    ):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(EdgeAgentError, match=said):
            read_evaluation(tmp_path / "b.json")


def test_two_evaluations_of_the_same_pictures_are_compared_draw_by_draw(plates, tmp_path, capfd):
    first = evaluated(plates, tmp_path / "a.json", "--baseline")
    assert first.baseline is not None
    better = first.model_copy(update={"measured": first.baseline})
    compared = compare(first, better)
    assert list(compared.rows) == ["plate"]
    change = compared.rows["plate"]["pixel_ap"]
    assert change.change.value == pytest.approx(change.second - change.first)
    assert change.supported
    same = compare(first, first).rows["plate"]["image_auroc"]
    assert (same.change.value, same.change.low, same.change.high, same.supported) == (0, 0, 0, False)
    capfd.readouterr()
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 0
    assert capfd.readouterr().out.count("not decided") == 7


def test_a_category_by_itself_is_compared_with_the_same_among_others_only_if_the_data_are_the_same(
    plates, tmp_path, capfd
):
    evaluated(plates, tmp_path / "a.json")
    evaluated(plates / "plate", tmp_path / "b.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    cv2.imwrite(str(plates / "plate/test/good/1.png"), np.full((64, 64, 3), 100, np.uint8))
    evaluated(plates, tmp_path / "b.json")
    capfd.readouterr()
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    assert "1 pictures of plate differ" in capfd.readouterr().err


def test_draws_of_another_seed_and_maps_of_another_size_are_not_compared(plates, tmp_path):
    first = evaluated(plates, tmp_path / "a.json")
    with pytest.raises(EdgeAgentError, match="different draws"):
        compare(first, evaluated(plates, tmp_path / "b.json", "--seed", "1"))
    compared = compare(first, evaluated(plates, tmp_path / "b.json", "--size", "64", "--category-names"))
    assert set(compared.rows["plate"]) == set(IMAGE_FIGURES)
    assert "--size" in compared.notes[0]
    assert "what their category is called" in compared.notes[1]


def test_a_mask_too_small_for_the_size_is_told(plates, capfd):
    for number in range(3):
        mask = np.zeros((64, 64), np.uint8)
        mask[11, 31] = 255
        cv2.imwrite(str(plates / f"plate/ground_truth/dent/{number}_mask.png"), mask)
    assert main(["evaluate", "--data", str(plates), "--size", "16"]) == 0
    assert "3 masks have no pixel left at 16 pixels: raise --size" in capfd.readouterr().err


def test_nowhere_to_write_is_said_before_anything_is_read(plates, capfd):
    assert main(["evaluate", "--data", str(plates), "--json", "/nowhere/a.json"]) == 1
    assert "no such folder to write a.json into" in capfd.readouterr().err


def test_defective_pictures_without_masks_alone_are_refused_before_the_work(plates, capsys):
    for path in (*plates.glob("plate/ground_truth/dent/*"), *plates.glob("plate/test/good/*")):
        path.unlink()
    assert main(["evaluate", "--data", str(plates)]) == 1
    assert "all 3 pictures are defective and have no masks, so nothing can be measured" in capsys.readouterr().err


def test_good_pictures_that_are_all_broken_leave_no_figure_and_no_traceback(plates):
    for path in plates.glob("plate/ground_truth/dent/*"):
        path.unlink()
    for path in plates.glob("plate/test/good/*"):
        path.write_bytes(b"no picture")
    result = evaluate(LocalContrast(), read_examples(plates))
    assert all(math.isnan(figure.value) for figure in result.figures.values())


def test_inverted_masks_and_copies_are_warned_of_in_the_table_and_the_report(plates, capsys):
    for path in plates.glob("plate/ground_truth/dent/*"):
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    (plates / "plate/test/good/copy.png").write_bytes((plates / "plate/test/good/0.png").read_bytes())
    assert main(["evaluate", "--data", str(plates), "--report", str(plates / "page.html")]) == 0
    warned, page = capsys.readouterr().err, (plates / "page.html").read_text()
    for said in ("the masks of 3 of 3 defective pictures cover most", "1 picture is a copy of others"):
        assert said in warned
        assert said in page


def test_a_checkpoint_is_read_with_the_class_name_that_it_was_fitted_with(plates):
    own = load_checkpoint(EMBEDDED_FOLDER / "tipsomaly.safetensors")
    out, found = plates / "prompts.safetensors", plates / "evaluation.json"
    save_checkpoint(Checkpoint({**own.header, "class_name": "hazelnut"}, own.tensors), out)
    measured = ["evaluate", "--data", str(plates), "--checkpoint", str(out), "--json", str(found)]
    assert main(measured) == 0
    assert read_evaluation(found).measured.class_name == "hazelnut"
    assert main([*measured, "--class-name", "nut"]) == 0
    assert read_evaluation(found).measured.class_name == "nut"
    assert setup_of_model(checkpoint=out).class_name == "hazelnut"
    assert setup_of_model().class_name == "object"
