"""The public sets are read as their owners publish them, and a method is measured on them beside what was published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.detectors.methods import METHODS
from edge_agent.errors import EdgeAgentError
from trainer.cli import main
from trainer.data.examples import categories
from trainer.data.public_sets import COMMUTATORS, SETS, PublicSet, find_sets
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.published import PAPERS, RUN_ANEW

BY_NAME = {one.name: one for one in SETS}
SIDE = 64


def write(path: Path, *, square: bool = False, black: bool = False) -> None:
    """A gray plate, with a bright square if wanted; or what is black but for that square."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    if not black:
        pixels += np.random.default_rng(len(str(path))).integers(90, 110, pixels.shape, np.uint8)
    if square:
        pixels[10:20, 30:40] = 255
    cv2.imwrite(str(path), pixels)


def mvtec(folder: Path, names: PublicSet) -> None:
    for one in names.categories:
        write(folder / one / "test/good/000.png")
        write(folder / one / "test/scratch/000.png", square=True)
        write(folder / one / "ground_truth/scratch/000_mask.png", square=True, black=True)
        write(folder / one / "train/good/000.png")


def visa(folder: Path, names: PublicSet) -> None:
    rows = ["object,split,label,image,mask"]
    for one in names.categories:
        images, masks = f"{one}/Data/Images", f"{one}/Data/Masks/Anomaly"
        write(folder / images / "Normal/0000.JPG")
        write(folder / images / "Anomaly/000.JPG", square=True)
        write(folder / masks / "000.png", square=True, black=True)
        rows += [
            f"{one},train,normal,{images}/Normal/0001.JPG,",
            f"{one},test,normal,{images}/Normal/0000.JPG,",
            f"{one},test,anomaly,{images}/Anomaly/000.JPG,{masks}/000.png",
        ]
    (folder / "split_csv").mkdir()
    (folder / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")


def btad(folder: Path, names: PublicSet) -> None:
    for one in names.categories:
        write(folder / one / "test/ok/0000.bmp")
        write(folder / one / "test/ko/0000.bmp", square=True)
        write(folder / one / f"ground_truth/ko/0000.{'bmp' if one == '03' else 'png'}", square=True, black=True)


def ksdd(folder: Path, names: PublicSet) -> None:
    for box in ("kos01", "kos02"):
        for part in range(2):
            write(folder / box / f"Part{part}.jpg", square=part == 1)
            write(folder / box / f"Part{part}_label.bmp", square=part == 1, black=True)


def dagm(folder: Path, names: PublicSet) -> None:
    for one in names.categories:
        write(folder / one / "Test/0001.PNG")
        write(folder / one / "Test/0002.PNG", square=True)
        write(folder / one / "Test/Label/0002_label.PNG", square=True, black=True)
        write(folder / one / "Train/0003.PNG")


WRITERS: dict[str, Callable[[Path, PublicSet], None]] = {
    "MVTec AD": mvtec, "VisA": visa, "MPDD": mvtec, "BTAD": btad, "KSDD": ksdd, "DAGM": dagm, "DTD-Synthetic": mvtec,
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, each in a folder of another depth or name than its own."""
    folder = tmp_path_factory.mktemp("sets")
    for number, (name, writer) in enumerate(WRITERS.items()):
        writer(folder / f"download{number}" / ("inner" if number % 2 else ""), BY_NAME[name])
    return folder


def test_all_seven_sets_are_found_in_one_folder(shelf: Path) -> None:
    found = find_sets(shelf)
    assert list(found) == list(WRITERS)
    assert find_sets(found["BTAD"][1]) == {"BTAD": found["BTAD"]}


@pytest.mark.parametrize("name", WRITERS)
def test_the_test_split_has_every_category_with_good_and_defective_pictures_and_masks(name: str, shelf: Path) -> None:
    known, folder = find_sets(shelf)[name]
    by_category = categories(known.examples(folder))
    assert list(by_category) == list(known.categories)
    for members in by_category.values():
        assert [one.defective for one in members].count(True) == len(members) / 2
        assert all(one.picture.is_file() and all(mask.is_file() for mask in one.masks) for one in members)
        assert all(bool(one.masks) == one.defective for one in members)
        assert not any("rain" in one.picture.parts[-3:-1] or "0001.JPG" in one.picture.name for one in members)


def test_ksdd_may_lie_as_the_papers_read_it(tmp_path: Path) -> None:
    mvtec(tmp_path, BY_NAME["KSDD"])
    known, folder = find_sets(tmp_path)["KSDD"]
    assert [one.category for one in known.examples(folder)] == [COMMUTATORS] * 2


def spoil_category(folder: Path) -> str:
    (folder / "02").rename(folder / "2")
    return "02: has no pictures, or is not there; expected is CATEGORY/test/ok/*"


def spoil_good(folder: Path) -> str:
    (folder / "01/test/ok").rename(folder / "01/test/good")
    return "01: has no good pictures; expected is CATEGORY/test/ok/*"


def spoil_mask(folder: Path) -> str:
    (folder / "03/ground_truth/ko/0000.bmp").unlink()
    return "0000.bmp has no mask; expected is CATEGORY/test/ok/*"


@pytest.mark.parametrize("spoil", [spoil_category, spoil_good, spoil_mask])
def test_an_unexpected_layout_says_what_was_expected_where(spoil: Callable[[Path], str], tmp_path: Path) -> None:
    btad(tmp_path, BY_NAME["BTAD"])
    expected = spoil(tmp_path)
    known, folder = find_sets(tmp_path)["BTAD"]
    with pytest.raises(EdgeAgentError) as raised:
        known.examples(folder)
    assert f"{tmp_path}: not BTAD as it is published" in str(raised.value)
    assert expected in str(raised.value)


def test_visa_without_its_split_says_which_file_it_is(tmp_path: Path) -> None:
    visa(tmp_path, BY_NAME["VisA"])
    (tmp_path / "split_csv/1cls.csv").unlink()
    known, folder = find_sets(tmp_path)["VisA"]
    with pytest.raises(EdgeAgentError, match=r"split_csv/1cls\.csv, which says what is tested, is not there"):
        known.examples(folder)


def test_a_folder_without_a_set_lists_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    with pytest.raises(EdgeAgentError, match="none of the public sets is in it") as raised:
        find_sets(tmp_path)
    for one in SETS:
        assert f"{one.name}: {one.layout}" in str(raised.value)


def test_a_set_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        btad(tmp_path / copy, BY_NAME["BTAD"])
    with pytest.raises(EdgeAgentError, match=r"BTAD a second time; the first is .*/a: name one of them"):
        find_sets(tmp_path)


def test_the_figures_stand_beside_the_published_ones_with_their_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ksdd(tmp_path / "k", BY_NAME["KSDD"])
    command = ["reproduce", "--method", "tipsomaly", "--data", str(tmp_path), "--mvtec", str(EMBEDDED_CHECKPOINT)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "published: Tipsomaly, TIPS Over Tricks: Simple Prompts for Effective Zero-shot Anomaly Detection,"
        " https://arxiv.org/abs/2602.03594"
    )
    assert f"embedded, prompts trained on MVTec AD; {tmp_path / 'k'}" in said
    assert "KSDD: 1 category, 2 good and 2 defective pictures" in said
    rows = {line.split()[0]: line.split()[1:] for line in said if line.startswith("  ")}
    published = dict(zip(FIGURES, rows["published"], strict=True))
    assert published == {
        **{"image_auroc": "97.8", "image_ap": "94.7", "image_f1": "90.1", "pixel_auroc": "99.5", "pixel_aupro": "97.9"},
        **{"pixel_f1": "58.4", "pixel_ap": "-"},
    }
    for here, there, shown in zip(rows["here"], rows["published"], rows["difference"], strict=True):
        assert (shown == "-") == (there == "-")
        assert there == "-" or float(shown) == pytest.approx(float(here) - float(there), abs=0.11)


def test_prompts_that_are_not_given_are_asked_for_by_the_set_they_are_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mvtec(tmp_path, BY_NAME["MPDD"])
    assert main(["reproduce", "--method", "cops", "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "MPDD is measured with prompts trained on MVTec AD: give them with --mvtec FILE.safetensors" in said
    command = ["reproduce", "--method", "cops", "--data", str(tmp_path), "--mvtec", str(EMBEDDED_CHECKPOINT)]
    assert main(command) == 1
    assert "is of the method tipsomaly, not of cops" in capsys.readouterr().err


def test_every_published_row_is_of_a_known_set_and_method() -> None:
    titles = {one.title for one in METHODS.values()}
    for paper in (*PAPERS, *RUN_ANEW):
        assert paper.rows.keys() <= BY_NAME.keys()
        assert paper.method in titles | {"AdaCLIP"}
        assert paper.source.startswith("https://")
