"""What the world gets wrong when a station or a bank is made: named in a sentence, and nothing half-written."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edge_agent.cli import main as agent
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.errors import CheckpointError
from edge_agent.inference import load
from tests.drilled import SIDE, folder, part
from trainer.bank.kinds import kinds_of, said_of
from trainer.cli import main
from trainer.station import candidates
from trainer.station import folder as station_folder
from trainer.station.format import Format, differences
from trainer.station.pictures import picture_set

BLACK = np.zeros((SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_trunk():
    """The smaller trunk alone: what is tested here is the same with both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "TRUNKS", ("efficientnet-lite0",))
        patch.setattr(candidates, "TIMED", 1)
        patch.setattr(candidates, "BATCH", 1)
        loader = load.Loader()
        patch.setattr(load, "Loader", lambda *places: loader)
        yield


def plate(seed: int) -> np.ndarray:
    """Another kind of part: a light plate on green."""
    random = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), (30, 90, 40), np.uint8)
    x, y = random.integers(-3, 4, 2)
    cv2.rectangle(pixels, (int(20 + x), int(20 + y)), (int(70 + x), int(60 + y)), (230, 220, 200), -1)
    return np.clip(pixels + random.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


def bank(place: Path, pictures: list[np.ndarray]) -> int:
    """Run `trainer bank` on pictures that are read small."""
    good = str(folder(place / "good", pictures))
    command = ["bank", "--good", good, "--method", "patchcore", "--image-size", "64"]
    return main([*command, "--out", str(place / "bank.safetensors")])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file that this process writes grow beyond `size` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_parts_of_two_kinds_are_named_by_kind_with_what_to_do(tmp_path, capsys):
    assert bank(tmp_path, [part(0), part(1), plate(0), plate(1), part(2)]) == 0
    assert (
        "The good pictures look to be of 2 kinds: 3 (part0.png, part1.png, part4.png) and 2 (part2.png, part3.png). If they"
        " come mixed on this line, show 20 or more of each. If each has a line of its own, make a station of each"
    ) in capsys.readouterr().err


def test_parts_of_one_kind_are_one_kind_and_two_pictures_tell_nothing():
    random = np.random.default_rng(0)
    assert kinds_of(random.normal(size=(12, 40))) == [list(range(12))]
    assert kinds_of(np.array([[0.0], [9.0]])) == [[0, 1]]
    assert kinds_of(np.ones((4, 3))) == [[0, 1, 2, 3]]
    far = np.repeat([[0.0, 0.0], [0.6, 0.0]], 3, axis=0)
    assert kinds_of(far) == [[0, 1, 2], [3, 4, 5]]
    assert kinds_of(0.2 * far) == [[0, 1, 2, 3, 4, 5]], "nearly the same part, in two lights"
    assert list(said_of([[0, 1, 2]], ["a", "b", "c"])) == []
    assert "2 (a and 1 more) and 1 (c)." in next(said_of([[0, 1], [2]], ["a", "b", "c"], 1))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (cv2.resize(part(2), (128, 128)), "Most good pictures are of 96 x 96 pixels, but not part2.png (128 x 128)"),
        (cv2.resize(part(2), (96, 48)), "part2.png (96 x 48): a picture of another shape shows the part squeezed"),
        (np.repeat(part(2)[..., :1], 3, axis=2), "Most good pictures are in colour, but not part2.png (gray)"),
    ],
)
def test_a_picture_of_another_size_or_colour_is_named(tmp_path, capsys, other, said):
    assert bank(tmp_path, [part(0), part(1), other]) == 0
    assert said in capsys.readouterr().err


def test_a_picture_that_is_a_few_pixels_smaller_is_not_worth_a_word():
    usual = Format(512, 512, gray=False)
    assert list(differences([("a", usual), ("b", usual), ("c", Format(512, 522, gray=False))])) == []
    assert "b (512 x 560)" in next(differences([("a", usual), ("b", Format(512, 560, gray=False)), ("c", usual)]))
    many = [("a", usual), ("b", Format(300, 300, gray=False)), ("c", Format(200, 200, gray=False))]
    assert "are of many sizes" in next(differences(many))


def test_a_picture_that_shows_nothing_is_not_used_and_named(tmp_path, capsys):
    gray = np.full_like(BLACK, 128)
    assert bank(tmp_path, [part(0), BLACK, gray, part(1), part(1)]) == 0
    said = capsys.readouterr().err
    assert "part1.png: the picture shows nothing: it is RGB (0, 0, 0) all over" in said
    assert "part2.png: the picture shows nothing: it is RGB (128, 128, 128) all over" in said
    assert f"part4.png: the same picture as {tmp_path / 'good' / 'part3.png'}" in said
    made = load_checkpoint(tmp_path / "bank.safetensors")
    assert [one["name"] for one in made.header["good"]] == ["part0.png", "part3.png"]


def test_of_black_pictures_alone_nothing_is_made(tmp_path, capsys):
    assert bank(tmp_path, [BLACK, BLACK[1:]]) == 1
    assert "none of the 2 good pictures can be used; the first:" in capsys.readouterr().err
    assert not (tmp_path / "bank.safetensors").exists()


def test_parts_that_are_of_one_colour_themselves_may_be_shown(tmp_path):
    assert bank(tmp_path, [np.full_like(BLACK, 200), np.full_like(BLACK, 203)]) == 0


def test_defective_pictures_none_of_which_can_be_used_are_not_replaced_by_painted_ones(tmp_path, capsys):
    good, bad = folder(tmp_path / "good", [part(0), part(1)]), folder(tmp_path / "bad", [BLACK])
    command = ["station", "--good", str(good), "--bad", str(bad), "--name", "cam1"]
    assert main([*command, "--out", str(tmp_path / "station")]) == 1
    assert "none of the 1 defective pictures can be used; the first:" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_written_bank(tmp_path, capsys):
    (tmp_path / "bank.safetensors").write_bytes(b"as it was")
    with files_of_at_most(40_000):
        assert bank(tmp_path, [part(0), part(1)]) == 1
    assert "File too large; free some space, or name another --out, and run" in capsys.readouterr().err
    assert (tmp_path / "bank.safetensors").read_bytes() == b"as it was"
    assert not list(tmp_path.glob(".*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Path]:
    """A station with a bank, made from three good parts of two kinds; what is tried here is measured once."""
    place = tmp_path_factory.mktemp("made")
    good = folder(place / "good", [part(0), plate(0), part(1)])
    bad = folder(place / "bad", [part(9, lacking=True)])
    found = list(
        candidates.candidates(
            picture_set(sorted(good.iterdir()), sorted(bad.iterdir())), "object", 500, 0, load.Loader(), int
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "candidates", lambda *arguments: iter([found[1]]))
        assert main([*station(place), "--bad", str(bad)]) == 0
        yield place


def station(place: Path) -> list[str]:
    return ["station", "--good", str(place / "good"), "--name", "cam1", "--out", str(place / "station")]


def contents(place: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file()}


def test_a_station_of_two_kinds_says_so_on_its_page(made):
    assert "of 2 kinds: 2 (part0.png, part2.png) and 1 (part1.png)" in (made / "station" / "wrong.html").read_text()


@pytest.mark.parametrize("bytes_a_file", [100, 40_000])
def test_a_full_disk_leaves_the_station_that_was_there_and_says_so(made, capsys, bytes_a_file):
    before = contents(made / "station")
    with files_of_at_most(bytes_a_file):
        assert main([*station(made), "--bad", str(made / "bad")]) == 1
    said = capsys.readouterr().err
    assert "cannot be written: File too large; free some space, or name another --out" in said
    assert f"the station in {made / 'station'} looks as it did: give the same command to start again" in said
    assert contents(made / "station") == before


@pytest.mark.parametrize("when", ["write_calibration", "station_page", "config_text"])
def test_interrupted_while_it_writes_it_leaves_the_station_that_was_there(made, capsys, monkeypatch, when):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = contents(made / "station")
    monkeypatch.setattr(station_folder, when, interrupted)
    assert main([*station(made), "--bad", str(made / "bad")]) == 130
    assert "looks as it did" in capsys.readouterr().err
    after = contents(made / "station")
    assert not before.items() - after.items()
    assert after.keys() - before.keys() <= {"config-1.yaml"}


BANK = {"model": "efficientnet-lite0", "checkpoint": "bank.safetensors"}


@pytest.mark.parametrize(
    ("detector", "damage", "said"),
    [
        (BANK, lambda data: data, "config.yaml is good"),
        (
            {**BANK, "model": "embedded"},
            lambda data: data,
            r"was made for efficientnet-lite0 \(\w+\); the station uses embedded \(\w+\): set the station's model to"
            r" efficientnet-lite0, or show embedded the good parts: `trainer bank --model embedded`",
        ),
        ({**BANK, "model": "efficientnet-lite2"}, lambda data: data, "the station uses efficientnet-lite2"),
        (BANK, lambda data: data[: len(data) // 2], r"damaged: \d+ bytes where its header says \d+; copy it again"),
        (BANK, lambda data: data[:300], "not a prompt checkpoint of edge-agent, or damaged"),
        (BANK, lambda data: b"", "not a prompt checkpoint of edge-agent, or damaged"),
    ],
)
def test_check_says_what_is_wrong_with_a_bank(tmp_path, capsys, detector, damage, said):
    assert bank(tmp_path, [part(0)]) == 0
    file = tmp_path / "bank.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    config = tmp_path / "config.yaml"
    stations = [{"name": "cam1", "source": {"folder": "good"}, "detector": detector}]
    config.write_text(yaml.safe_dump({"agent": {"data_dir": "data"}, "stations": stations}))
    capsys.readouterr()
    agent(["check", "--config", str(config)])
    found = capsys.readouterr()
    assert re.search(said, found.out + found.err)


def test_a_bank_loaded_with_a_trunk_that_is_not_its_own_is_refused_by_name(tmp_path):
    assert bank(tmp_path, [part(0)]) == 0
    with pytest.raises(CheckpointError, match=r"was made for efficientnet-lite0 .* uses efficientnet-lite2"):
        load.Loader().detector("efficientnet-lite2", tmp_path / "bank.safetensors")
