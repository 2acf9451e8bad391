"""`make demo` teaches one part: what README says comes out of it does."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from trainer.cli import main
from trainer.pretrain.samples import write_part
from trainer.station import candidates
from trainer.station.before_after import WIDE

ROOT = Path(__file__).parents[1]
PART = ROOT / "edge_agent" / "sample_part"


def test_six_good_pictures_teach_the_part_of_the_demo(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(candidates, "TRUNKS", ("efficientnet-lite0",))
    monkeypatch.setattr(candidates, "TIMED", 1)
    command = re.search(r"\$\(BIN\)/trainer (station (?:.*\\\n)*.*)", (ROOT / "Makefile").read_text())[1]
    arguments = [one.strip('"') for one in re.findall(r'"[^"]*"|[^\s\\]+', command)]
    assert main([*arguments[:-1], str(tmp_path / "plate")]) == 0

    said = re.findall(r"^(OK|NotOK) +(OK|NotOK) +\d_(\w+)\.jpg$", capsys.readouterr().out, re.MULTILINE)
    wrong = [
        [(kind == "good") != (verdicts[when] == "OK") for *verdicts, kind in said if (kind == "good") is good]
        for when in (0, 1)
        for good in (True, False)
    ]
    assert [(sum(each), len(each)) for each in wrong] == [
        (1, 3),
        (1, 3),
        (0, 3),
        (0, 3),
    ]  # before, before, after, after
    sheet = cv2.imread(str(tmp_path / "plate" / "before-after.jpg"))
    assert sheet.shape[1] > 4 * WIDE  # two pictures side by side, each twice
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "rejects one of three good plates and misses one of three defects. After, all six are right" in readme


def test_the_pictures_that_are_taught_are_those_that_the_program_draws(tmp_path):
    write_part(tmp_path)
    drawn = {path.relative_to(tmp_path): cv2.imread(str(path)) for path in tmp_path.glob("*/*.jpg")}
    shipped = {path.relative_to(PART): cv2.imread(str(path)) for path in PART.glob("*/*.jpg")}
    assert drawn.keys() == shipped.keys()
    for name, pixels in drawn.items():
        assert np.abs(pixels.astype(float) - shipped[name]).mean() < 2, name


def test_pictures_to_try_have_to_be_there(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    command = ["station", "--good", str(PART / "good"), "--try", str(tmp_path / "none"), "--name", "plate"]
    assert main([*command, "--out", str(tmp_path / "plate")]) == 1
    assert "no pictures there" in capsys.readouterr().err
