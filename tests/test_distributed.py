"""`replay --distributed` finds on a Ray cluster what a replay on this machine finds, in the same order, and goes on like it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import main
from edge_agent.io.pictures import decode
from tests.agent import journalled, part, station, write_config
from tests.test_stored_source import write_video

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs the extra distributed, which is Ray")


def archive(folder: Path) -> list[str]:
    """Pictures whose verdicts raise alarms and clear them; one is damaged, one is a link to nowhere, one has an odd name."""
    for number in range(20):
        part(folder / f"{number}.png", 5 * (number % 8) + number // 8)
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "30.png").symlink_to("nowhere.png")
    part(Path(os.fsdecode(os.fsencode(folder) + b"/31\xff.png")))
    return [str(folder / f"{number}.png") for number in range(20)]


def findings(out: Path) -> list[tuple[Any, ...]]:
    names = (
        "origin",
        "seq",
        "evaluation",
        "alarm",
        "reason",
        "width",
        "height",
        "part_id",
        "simulated",
        "model_sha256",
    )
    return [tuple(row[name] for name in names) for row in journalled(out / "journal.db")]


@needs_ray
def test_a_local_cluster_finds_what_this_machine_finds_and_goes_on_where_either_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = archive(tmp_path / "photos")
    assert main(["replay", *paths, "--out", str(tmp_path / "first"), "--overlays", "none"]) == 0
    scores = sorted(row["score"] for row in journalled(tmp_path / "first" / "journal.db") if row["score"] is not None)
    threshold = (scores[len(scores) // 2] + scores[len(scores) // 2 + 1]) / 2  # so that alarms come and go
    config = str(write_config(tmp_path, station(threshold=threshold, debounce={"raise_after": 2, "of": 3})))
    here, there = tmp_path / "here", tmp_path / "there"
    assert main(["replay", str(tmp_path / "photos"), "--config", config, "--out", str(here)]) == 0
    assert main(["replay", *paths[:7], "--config", config, "--out", str(there)]) == 0
    capsys.readouterr()
    command = ["replay", str(tmp_path / "photos"), "--config", config, "--out", str(there), "--json"]
    assert main([*command, "--distributed", "local", "--workers", "1"]) == 0
    said = capsys.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    rows = journalled(there / "journal.db")
    assert [one["inspection_id"] for one in told] == [row["id"] for row in rows[7:]]
    assert "15 pictures in " in said.err
    assert "7 were inspected before; of all 22: " in said.err

    assert findings(there) == findings(here)
    assert {"raised", "repeated", "cleared"} <= {row["alarm"] for row in rows}, "the alarms are put to the test"
    for row, other in zip(rows, journalled(here / "journal.db"), strict=True):
        assert row["score"] == (None if other["score"] is None else pytest.approx(other["score"], abs=1e-4))
    overlays = [
        [Path(row["overlay_uri"].removeprefix("file://")) for row in journalled(out / "journal.db")]
        for out in (here, there)
    ]
    for ours, theirs in zip(*overlays, strict=True):
        assert decode(ours).shape == decode(theirs).shape
        assert abs(decode(ours).astype(int) - decode(theirs)).mean() < 1
    sheets = [decode(out / "contact_sheet.jpg").astype(int) for out in (here, there)]
    assert abs(sheets[0] - sheets[1]).mean() < 2, "thumbnails of overlays are not as sharp"


@needs_ray
@pytest.mark.parametrize(
    ("address", "why"), [("127.0.0.1:1", "nothing listens at port 1"), ("127.0.0.1:many", "Port could not be cast")]
)
def test_a_cluster_that_is_not_there_is_said_at_once(
    address: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["replay", str(part(tmp_path / "a.png")), "--out", str(out), "--distributed", address]) == 1
    said = capsys.readouterr().err
    assert f"edge-agent: --distributed {address}: no Ray cluster is reached ({why}" in said
    assert not out.exists()


def test_videos_are_refused_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "run.avi", 2)
    assert main(["replay", str(tmp_path), "--out", str(tmp_path / "out"), "--distributed", "local"]) == 1
    assert "--distributed takes pictures alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_ray_it_is_said_what_to_install_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python has it of what cannot be imported
    out = tmp_path / "out"
    assert main(["replay", str(part(tmp_path / "a.png")), "--out", str(out), "--distributed", "local"]) == 1
    assert "pip install 'edge-agent[distributed]'" in capsys.readouterr().err
    assert not out.exists()
