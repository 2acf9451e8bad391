"""A replay that was interrupted, however it was, goes on with the same command, and ends as if it never had been."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import main
from edge_agent.io.pictures import decode
from tests.agent import forks, journalled, part, run_logged, station, write_config
from tests.conftest import PATIENCE_S, wait_until

PICTURES = 40


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, one picture of which is damaged."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(PICTURES):
        part(folder / f"day{number // 15}" / f"{number}.png", 5 * (number % 8) + number // 8)
    (folder / "day1" / "20.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def config(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station under whose threshold some of the archive is OK and some is not, so that alarms come and go."""
    folder = tmp_path_factory.mktemp("config")
    assert main(["replay", str(archive), "--out", str(folder / "first"), "--overlays", "none"]) == 0
    scores = sorted(row["score"] for row in journalled(folder / "first" / "journal.db") if row["score"] is not None)
    threshold = (scores[len(scores) // 2] + scores[len(scores) // 2 + 1]) / 2
    return write_config(folder, station(threshold=threshold, debounce={"raise_after": 2, "of": 3}))


@pytest.fixture(scope="module")
def whole(archive: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a replay leaves that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert main(["replay", str(archive), "--config", str(config), "--out", str(out)]) == 0
    return out


def findings(out: Path) -> list[tuple[Any, ...]]:
    rows = journalled(out / "journal.db")
    return [(row["origin"], row["seq"], row["evaluation"], row["score"], row["alarm"], row["reason"]) for row in rows]


def children(process: BaseProcess) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def is_there(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


@contextmanager
def replaying(log: Path, *arguments: object) -> Iterator[BaseProcess]:
    """`replay ARGUMENTS` as a terminal would have it, in a process group of its own."""
    process = forks().Process(target=run_logged, args=(["replay", *map(str, arguments)], log, os.setsid, {}))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE_S)


def test_one_that_is_killed_again_and_again_ends_as_one_that_never_was(
    archive: Path, config: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, out = random.Random(4711), tmp_path / "out"
    done = 0
    for _ in range(3):
        with replaying(tmp_path / "log", archive, "--config", config, "--out", out, "--workers", 1) as process:
            enough = done + chance.randint(1, 8)
            wait_until(lambda: len(findings(out)) >= enough, "some are inspected")  # noqa: B023
            time.sleep(chance.uniform(0, 0.05))
            decoding = children(process)
            process.kill()
            process.join(PATIENCE_S)
        wait_until(lambda: not any(map(is_there, decoding)), "what decoded for it ends, too")  # noqa: B023
        assert done < len(findings(out)) < PICTURES
        done = len(findings(out))
    capsys.readouterr()
    assert main(["replay", str(archive), "--config", str(config), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    # A batch that was cut elsewhere may round its scores otherwise, and nothing else.
    for found, expected in zip(findings(out), findings(whole), strict=True):
        assert found[:3] == expected[:3]
        assert found[3] == (None if expected[3] is None else pytest.approx(expected[3], abs=1e-5))
        assert found[4:] == expected[4:]
    assert f"\n{PICTURES - done} pictures in " in said
    evaluations = [one[2] for one in findings(whole)]
    counts = ", ".join(f"{evaluations.count(word)} {word}" for word in ("OK", "NotOK", "NotDecidable"))
    assert f"{done} were inspected before; of all {PICTURES}: {counts}" in said
    assert {"raised", "repeated", "cleared"} <= {one[4] for one in findings(whole)}, "the alarms are put to the test"
    differ = decode(out / "contact_sheet.jpg").astype(int) - decode(whole / "contact_sheet.jpg")
    assert abs(differ).mean() < 1, "the sheet shows what was done before, too"


def test_after_ctrl_c_in_a_terminal_nothing_is_left_running_and_the_rest_is_done_later(
    archive: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with replaying(log, archive, "--out", out, "--workers", 2) as process:
        wait_until(lambda: findings(out), "some are inspected")
        decoding = children(process)
        assert len(decoding) == 2
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGINT)
        process.join(PATIENCE_S)
    assert process.exitcode == 130
    assert "the same command continues from here" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not any(map(is_there, decoding))
    assert 0 < len(findings(out)) < PICTURES
    assert main(["replay", str(archive), "--out", str(out), "--overlays", "none"]) == 0
    assert [row[0] for row in findings(out)] == [str(path) for path in sorted_paths(archive)]


def sorted_paths(archive: Path) -> list[Path]:
    return [archive / f"day{number // 15}" / f"{number}.png" for number in range(PICTURES)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        part(tmp_path / "photos" / f"{number}.png", 10 * number)
    return tmp_path / "photos"


def names_told(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    capsys.readouterr()
    assert main(["replay", "--json", *map(str, arguments)]) == 0
    return [Path(json.loads(line)["origin"]).name for line in capsys.readouterr().out.splitlines()]


def test_what_has_come_or_changed_since_is_inspected_and_nothing_else(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (photos, "--out", tmp_path / "out")
    assert names_told(capsys, *command) == ["1.png", "2.png", "3.png"]
    assert names_told(capsys, *command) == []
    part(photos / "0.png", 40)
    os.utime(photos / "2.png", (1e9, 1e9))
    assert names_told(capsys, *command) == ["0.png", "2.png"]
    (photos / "3.png").unlink()
    assert names_told(capsys, photos / "1.png", photos / "0.png", *command[1:]) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "0.25"], "threshold 0.5, now 0.25"),
        (["--class-name", "hazelnut"], "class_name object, now hazelnut"),
    ],
)
def test_other_settings_are_not_mixed_into_a_folder_unless_it_is_said(
    options: list[str], said: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replay", str(photos), "--out", str(tmp_path / "out")]
    assert main([*command, "--threshold", "0.5"]) == 0
    assert main([*command, "--threshold", "0.5", *options]) == 1
    refused = capsys.readouterr().err
    assert said in refused
    assert "name another --out, or inspect everything again with --again" in refused
    assert len(findings(tmp_path / "out")) == 3
    assert names_told(capsys, *command[1:], "--threshold", "0.5", *options, "--again") == ["1.png", "2.png", "3.png"]
    assert names_told(capsys, *command[1:], "--threshold", "0.5", *options) == [], "it is what goes on from now on"
    assert main([*command, "--threshold", "0.5"]) == 1


def test_a_changed_config_is_another_setting_and_another_station_is_none_of_its_business(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, station("press"), station("mill"))
    command = [str(photos), "--config", str(config), "--out", str(tmp_path / "out"), "--station"]
    assert len(names_told(capsys, *command, "press")) == len(names_told(capsys, *command, "mill")) == 3
    write_config(tmp_path, station("press"), station("mill", min_area=0.1))
    assert main(["replay", *command, "mill"]) == 1
    assert "min_area 0.0, now 0.1" in capsys.readouterr().err


def test_a_folder_that_does_not_say_what_its_pictures_were_judged_by_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["replay", str(photos), "--out", str(out)]
    assert main(command) == 0
    (out / "replay.json").rename(tmp_path / "kept.json")
    assert main(command) == 1
    assert "holds inspections of station replay, and not what they were judged by" in capsys.readouterr().err
    (out / "replay.json").write_text("{}")
    assert main(command) == 1
    assert f"{out}/replay.json: damaged, or of another version" in capsys.readouterr().err
    (tmp_path / "kept.json").rename(out / "replay.json")
    assert names_told(capsys, *command[1:]) == []
