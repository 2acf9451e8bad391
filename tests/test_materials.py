"""Photographed materials: out of packages into a folder, and from there into good pictures."""

import json
import shutil
import subprocess
import zipfile

import cv2
import numpy as np
import pytest

from edge_agent.errors import ConfigError
from trainer.cli import main
from trainer.pretrain.materials.folder import LIST, digest, read_materials
from trainer.pretrain.materials.packages import SOURCES
from trainer.pretrain.pool import make_pool
from trainer.synthesis import normal


def photograph(seed, shape=(120, 150, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two photographs and their list."""
    where = tmp_path / "materials"
    where.mkdir()
    listed = {}
    for number, noun in enumerate(["oak", "linen"]):
        cv2.imwrite(str(where / f"{noun}.png"), photograph(number))
        listed[f"{noun}.png"] = {"nouns": [noun]}
    (where / LIST).write_text(json.dumps(listed))
    return where


def test_a_piece_is_of_one_material_in_one_tone_wherever_it_is_cut_from(folder):
    materials = read_materials(folder)
    one, noun = materials.piece(np.random.default_rng(3), np.random.default_rng(1), 40)
    same, _ = materials.piece(np.random.default_rng(3), np.random.default_rng(1), 40)
    other, its_noun = materials.piece(np.random.default_rng(3), np.random.default_rng(2), 40)
    assert one.shape == (40, 40, 3)
    assert one.dtype == np.float32
    assert 0 <= one.min() < one.max() <= 1
    np.testing.assert_array_equal(one, same)
    assert noun == its_noun
    assert noun in ("oak", "linen")
    assert not np.array_equal(one, other)
    assert np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max() < 0.1


def test_grain_leaves_the_tone_of_what_it_is_laid_on(folder):
    grain = read_materials(folder).grain(np.random.default_rng(4), np.random.default_rng(1), 64)
    assert grain.std() > 0.01
    assert grain.mean() == pytest.approx(1, abs=0.15)


def test_some_good_pictures_are_made_of_photographs_and_none_where_there_are_none(folder):
    materials = read_materials(folder)
    names = {normal(np.random.default_rng(seed), 32, materials).noun for seed in range(40)}
    assert names & {"oak", "linen"}
    assert not {normal(np.random.default_rng(seed), 32).noun for seed in range(40)} & {"oak", "linen"}


def test_a_pool_of_other_materials_is_another_pool(folder, tmp_path):
    drawn = np.array(make_pool(tmp_path / "pool", 6, 48, seed=3, workers=1).pictures)
    first = np.array(make_pool(tmp_path / "pool", 6, 48, seed=3, workers=1, materials=folder).pictures)
    assert not np.array_equal(drawn, first)
    before = digest(folder)
    cv2.imwrite(str(folder / "oak.png"), photograph(9))
    assert digest(folder) != before
    again = np.array(make_pool(tmp_path / "pool", 6, 48, seed=3, workers=1, materials=folder).pictures)
    assert not np.array_equal(first, again)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"a.png": {}}',
        '{"a.png": {"nouns": []}}',
        '{"a.png": {"nouns": [" "]}}',
        '{"a.png": {"nouns": "oak"}}',
    ],
)
def test_a_list_that_says_too_little_is_refused_with_what_is_needed(folder, text):
    (folder / LIST).write_text(text)
    with pytest.raises(ConfigError, match=r"materials\.json.*nouns"):
        read_materials(folder)


def test_a_picture_that_is_none_or_too_small_is_named(folder):
    cv2.imwrite(str(folder / "oak.png"), photograph(1, (95, 200, 3)))
    with pytest.raises(ConfigError, match=r"oak\.png.*96 pixels"):
        read_materials(folder)
    (folder / "oak.png").unlink()
    for look in (read_materials, digest):
        with pytest.raises(ConfigError, match=r"oak\.png"):
            look(folder)


def test_a_folder_that_cannot_be_written_is_named(packages, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert main(["materials", *map(str, packages), "--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "out") in capsys.readouterr().err


@pytest.fixture
def packages(tmp_path):
    """Packages with the members that the real ones have, made by the program that makes the real ones."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb")
    made = []
    for number, source in enumerate(SOURCES):
        members = {}
        for place, member in enumerate(source.pictures):
            _, data = cv2.imencode(f".{member.rpartition('.')[2]}", photograph(1000 * number + place))
            members[source.folder + member] = data.tobytes()
        root = tmp_path / source.package
        if source.archive:
            (root / source.archive).parent.mkdir(parents=True)
            with zipfile.ZipFile(root / source.archive, "w") as inner:
                for name, data in members.items():
                    inner.writestr(name, data)
        elif source.folder.startswith("./"):
            for name, data in members.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
        else:
            wheel = tmp_path / f"{source.package}-0.16.2-cp37.whl"
            with zipfile.ZipFile(wheel, "w") as whole:
                for name, data in members.items():
                    whole.writestr(name, data)
            made.append(wheel)
            continue
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(
            f"Package: {source.package}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: x\n"
        )
        made.append(tmp_path / f"{source.package}_1_all.deb")
        subprocess.run(["dpkg-deb", "--build", "-Zgzip", str(root), str(made[-1])], check=True, capture_output=True)
    return made


def test_the_command_takes_every_listed_photograph_and_says_where_it_is_from(packages, tmp_path, capsys):
    assert main(["materials", *map(str, packages), "--out", str(tmp_path / "out")]) == 0
    count = sum(len(source.pictures) for source in SOURCES)
    assert f"{count} photographs" in capsys.readouterr().out
    listed = json.loads((tmp_path / "out" / LIST).read_text())
    assert len(listed) == count == len(read_materials(tmp_path / "out").pictures)
    oak = listed["sweethome3d-furniture-oakChair-oak.png"]
    assert oak["member"] == "oakChair/oak.jpg"
    assert "CC0" in oak["licence"]
    assert oak["nouns"][0] == "wood"


def test_a_package_that_lacks_or_is_broken_is_named(packages, tmp_path, capsys):
    assert main(["materials", *map(str, packages[1:]), "--out", str(tmp_path / "out")]) != 0
    assert SOURCES[0].package in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    packages[0].write_bytes(b"no package")
    assert main(["materials", *map(str, packages), "--out", str(tmp_path / "out")]) != 0
    assert packages[0].name in capsys.readouterr().err
