"""`edge-agent replay` inspects stored pictures as the daemon would, and leaves the line and its broker alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

import edge_agent
from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT, EMBEDDED_FOLDER
from edge_agent.backbones.tips.files import pinned_digest
from edge_agent.backbones.weights.digests import measure
from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation
from edge_agent.detectors.header import read_header
from edge_agent.evidence.store import EvidenceStore
from edge_agent.io.pictures import decode
from edge_agent.journal.journal import Journal
from edge_agent.journal.rows import RecordedInspection
from edge_agent.mqtt.messages import schema
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, journalled, part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.line import NOON, inspected
from tests.made import gradient
from tests.mosquitto import Listener, Mosquitto

SAMPLES = Path(edge_agent.__file__).parent / "samples"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    for number in (1, 2, 3):
        part(tmp_path / "photos" / f"{number}.png", 10 * number)
    return tmp_path / "photos"


def replayed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """What `replay --json ARGUMENTS` says on stdout, line for line."""
    assert main(["replay", "--json", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def recorded(out: Path) -> list[RecordedInspection]:
    with closing(Journal.open(f"sqlite:///{out}/journal.db")) as journal:
        return journal.inspections()


def test_the_samples_give_a_line_each_a_summary_and_all_there_is_to_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = sorted(sample.stem for sample in SAMPLES.iterdir())
    assert len(names) >= 6
    assert main(["replay", str(SAMPLES)]) == 0

    *lines, blank, summary, overlays, sheet, journal = capsys.readouterr().out.splitlines()
    assert [name for line in lines for name in names if f"  {name}" in line] == names
    for line in lines:
        verdict, _, score, _, threshold, ms = line.split()[:6]
        assert verdict in ("OK", "NotOK")
        assert 0 <= float(score) <= 1
        assert 0 <= float(threshold) <= 1
        assert int(ms) >= 0
    assert blank == ""
    assert summary.startswith(f"{len(names)} pictures in ")
    assert summary.endswith(" 0 NotDecidable")

    out = tmp_path / "replay-out"
    assert (overlays.split()[-1], journal.split()[-1]) == (str(out / "evidence"), str(out / "journal.db"))
    assert sheet.split()[-1] == str(out / "contact_sheet.jpg")
    assert len(list((out / "evidence").rglob("*_overlay.jpg"))) == len(names)
    assert decode(out / "contact_sheet.jpg").shape[1] > 500
    found = recorded(out)
    assert [one.part_id for one in found] == names
    assert all(one.simulated for one in found)


def test_json_is_an_object_a_line_by_the_schema_and_nothing_else_on_stdout(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "4.png").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["replay", str(photos), "--json", "--threshold", "0", "--out", str(out)]) == 0
    said = capfd.readouterr()
    objects = [json.loads(line) for line in said.out.splitlines()]
    assert "4 pictures in" in said.err
    for told, found in zip(objects, recorded(out), strict=True):
        assert told["inspection_id"] == found.id
        assert told["origin"] == found.origin == str(photos / f"{found.part_id}.png")
        assert told["timings_ms"].keys() == {"detect", "judge"}
        assert told["simulated"]
        del told["origin"], told["timings_ms"]
        sent = {"agent": "box", "epoch": "0193b0a8-9f2c-4d4e-8f3a-5a2b7c9d0e1f", "seq": 1, "historical": False}
        jsonschema.validate({**told, **sent}, schema("result"))
    assert [told["evaluation"] for told in objects] == ["NotOK", "NotOK", "NotOK", "NotDecidable"]


def test_a_replay_that_is_to_be_made_again_adds_to_the_folder_and_does_not_inspect_what_the_first_left(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    for _ in range(2):
        assert [Path(told["origin"]).name for told in replayed(capsys, ".", "--again")] == ["1.png", "2.png", "3.png"]
    assert len(recorded(photos / "replay-out")) == 6


@pytest.mark.parametrize("name", ["a b", "100%20 ?", "a@b@c", "größer", "#1"])
def test_any_name_will_do_for_a_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).mkdir()
    picture, config = part(tmp_path / name / "photos" / "1.png"), write_config(tmp_path / name)
    replayed(capsys, picture, "--config", config, "--out", tmp_path / name / "out")
    assert [Path(row["origin"]) for row in journalled(tmp_path / name / "out" / "journal.db")] == [picture]
    url = load_config(config).database.url
    Journal.open(url).close()
    assert (tmp_path / name / "data" / "journal.db").exists()
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["config.yaml", "data", "out", "photos"]


def test_the_command_line_or_the_config_says_where_the_threshold_is(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, station("strict", threshold=ALL_NOT_OK), station("lenient", threshold=ALL_OK))

    def verdicts(*options: object) -> set[tuple[str, str, float]]:
        found = replayed(capsys, photos, "--out", tmp_path / "out", "--again", *options)
        return {(told["station"], told["evaluation"], told["threshold"]) for told in found}

    assert verdicts("--config", config, "--station", "strict") == {("strict", "NotOK", 0.0)}
    assert verdicts("--config", config, "--station", "lenient") == {("lenient", "OK", 1.0)}
    assert verdicts("--config", config, "--station", "lenient", "--threshold", "0") == {("lenient", "NotOK", 0.0)}
    assert verdicts("--threshold", "1") == {("replay", "OK", 1.0)}


def test_what_a_station_masks_is_not_looked_at(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anything = 1e-30  # what any patch reaches
    left, right = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
    config = write_config(
        tmp_path,
        station("all", map_threshold=anything),
        station("left", map_threshold=anything, include=[left]),
        station("right", map_threshold=anything, ignore=[left]),
        station("both", map_threshold=anything, include=[left, right]),
    )
    boxes = {}
    for name in ("all", "left", "right", "both"):
        first, *_ = replayed(capsys, photos, "--config", config, "--station", name, "--out", tmp_path / "out")
        (boxes[name],) = [region["bbox"] for region in first["regions"]]
    assert boxes == {"all": [0, 0, 64, 48], "both": [0, 0, 64, 48], "left": [0, 0, 32, 48], "right": [32, 0, 32, 48]}


def test_a_station_has_to_be_chosen_among_those_there_are(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path, station("press"), station("mill")))
    assert main(["replay", str(photos), "--config", config]) == 78
    assert "2 stations: choose one with --station press|mill" in capsys.readouterr().err
    assert main(["replay", str(photos), "--config", config, "--station", "pres"]) == 78
    assert "no station 'pres'; it has press, mill" in capsys.readouterr().err


def test_paths_that_lead_to_nothing_are_named_and_nothing_is_written(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["replay", str(photos), "missing.png", f"{tmp_path}/*.jpg", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "edge-agent: missing.png: no such file or folder: correct the path\n"
        f"{tmp_path}/*.jpg: no picture or video there: give files, folders or globs of them\n"
    )
    assert said.out == ""
    assert not out.exists()


def test_the_command_line_may_name_model_checkpoint_and_calibration_in_place_of_the_configs(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(EMBEDDED_CHECKPOINT, tmp_path / "mine.safetensors")
    calibration = {
        "schema": "edge-agent/calibration/1",
        "id": "c7",
        "threshold": 0.125,
        "false_alarm_rate": 0.001,
        "good_pictures": 40,
        "model_sha256": pinned_digest(EMBEDDED_FOLDER),
        "checkpoint_sha256": measure(EMBEDDED_CHECKPOINT)["sha256"],
        "created": "2026-11-20T08:15:30Z",
    }
    (tmp_path / "calibration.json").write_text(json.dumps(calibration))
    config = write_config(tmp_path, station(detector={"method": "clip"}, threshold=ALL_OK))
    picture, again = photos / "1.png", ("--again", "--out", tmp_path / "out")

    def thresholds(*options: object) -> set[float]:
        return {one["threshold"] for one in replayed(capsys, picture, *again, "--config", config, *options)}

    assert thresholds() == {ALL_OK}
    recommended = float(read_header(EMBEDDED_CHECKPOINT)["threshold"])
    prompts = ("--checkpoint", tmp_path / "mine.safetensors")
    assert thresholds(*prompts) == {recommended}
    assert thresholds(*prompts, "--calibration", tmp_path / "calibration.json") == {0.125}
    assert thresholds("--model", "embedded", "--threshold", 0.25) == {0.25}
    for options, said in (
        (["--model", "tips-l41"], "--model: 'tips-l41' is no known backbone; did you mean tips-l14"),
        (["--checkpoint", str(config)], f"--checkpoint: {config}: not a prompt checkpoint of edge-agent"),
        (["--checkpoint", str(tmp_path / "gone")], f"--checkpoint: the file {tmp_path}/gone does not exist"),
        (["--calibration", str(config)], f"{config}: schema: is missing: calibrate again"),
    ):
        assert main(["replay", str(picture), "--out", str(tmp_path / "out"), *options]) == 78
        assert said in capsys.readouterr().err


def test_what_was_kept_of_a_station_is_replayed_by_its_name_and_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, station("cam1", threshold=ALL_NOT_OK), station("cam2"))
    store = EvidenceStore(tmp_path / "data" / "evidence")
    with closing(Journal.open(f"sqlite:///{tmp_path}/data/journal.db")) as journal:
        for number in range(4):
            taken_at = NOON + timedelta(hours=number)
            evaluation = Evaluation.OK if number == 3 else Evaluation.NOT_OK
            one = inspected(taken_at=taken_at, at=taken_at, evaluation=evaluation, part_id=f"P{number}")
            journal.record(one, store.save(one), [])
    out = ("--out", tmp_path / "out", "--again")
    since = f"{NOON + timedelta(minutes=30):%Y-%m-%dT%H:%MZ}"

    def parts(*arguments: object) -> list[str]:
        return [Path(one["origin"]).name.split("_")[2] for one in replayed(capsys, *arguments, *out)]

    assert parts("journal:cam1", "--config", config) == ["P0", "P1", "P2"]
    assert parts("journal:cam1", "--config", config, "--since", since) == ["P1", "P2"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
    assert parts("journal:cam1", "--since", since, "--until", f"{NOON + timedelta(hours=2):%Y-%m-%dT%H:%MZ}") == ["P1"]
    for arguments, code, said in (
        (["journal:cam2"], 1, "no picture of cam2 is kept of that time: evidence.originals says of which verdicts"),
        (["journal:cam9"], 78, "the config has no station 'cam9'; it has cam1, cam2"),
        ([str(tmp_path), "--since", "2026-11-20"], 78, "--since and --until go with journal:STATION"),
    ):
        assert main(["replay", *arguments, "--out", str(tmp_path / "out")]) == code
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["1.1", "-0.1", "nan", "high"])
def test_a_threshold_is_a_number_from_0_to_1(threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", ".", f"--threshold={threshold}"])
    assert ended.value.code == 2
    assert f"argument --threshold: '{threshold}' is no number from 0 to 1" in capsys.readouterr().err


def test_a_video_is_inspected_frame_by_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = cv2.VideoWriter(str(tmp_path / "run.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 48))
    for number in range(12):
        video.write(np.ascontiguousarray(gradient(48, 64, 4 * number)[..., ::-1]))
    video.release()
    out = tmp_path / "out"
    frames = replayed(capsys, tmp_path / "run.avi", "--out", out, "--threshold", 1)
    assert [told["origin"] for told in frames] == [f"{tmp_path}/run.avi#{number}" for number in range(12)]
    assert {told["evaluation"] for told in frames} == {"OK"}
    assert len(list((out / "evidence").rglob("*_overlay.jpg"))) == 12


def test_the_daemon_gives_the_same_verdicts_for_the_same_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = sorted(SAMPLES.iterdir())[:8]
    scores = sorted(told["score"] for told in replayed(capsys, *samples, "--out", tmp_path / "first"))
    low, high = max(pairwise(scores), key=lambda pair: pair[1] - pair[0])  # so that rounding decides nothing
    hole = [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6]]
    config = write_config(tmp_path, station(threshold=(low + high) / 2, ignore=[hole]))
    replayed(capsys, *samples, "--config", config, "--out", tmp_path / "out")

    with Daemon(config) as daemon:
        for sample in samples:
            (tmp_path / "cam1").mkdir(exist_ok=True)
            shutil.copyfile(sample, tmp_path / "cam1" / sample.name)
        daemon.has_inspected(*(sample.name for sample in samples))
        daemon.stop()
    by_daemon = {one.part_id: one for one in recorded(tmp_path / "data")}
    by_replay = {one.part_id: one for one in recorded(tmp_path / "out")}
    assert by_daemon.keys() == by_replay.keys() == {sample.stem for sample in samples}
    for name, one in by_replay.items():
        other = by_daemon[name]
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.verdict.evaluation is other.verdict.evaluation
        assert len(one.verdict.regions) == len(other.verdict.regions)
        assert (one.threshold, one.trace) == (other.threshold, other.trace)
        assert (one.simulated, other.simulated) == (True, False)


def test_nothing_is_published_unless_it_is_asked_for_and_then_it_says_that_it_is_simulated(
    photos: Path, tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, broker=broker)
    with Listener(broker) as listener:
        replayed(capsys, photos, "--config", config, "--out", tmp_path / "silent")
        told = replayed(capsys, photos, "--config", config, "--out", tmp_path / "out", "--publish")
        assert listener.ids("alarm") == [one["inspection_id"] for one in told]
        for alarm in listener.heard("alarm"):
            assert (alarm.topic, alarm.payload["simulated"]) == ("plant/line/box-replay/cam1/alarm", True)
            jsonschema.validate(alarm.payload, schema("alarm"))
        wait_until(lambda: len(listener.heard("status")) == 2, "it says goodbye")
        assert {heard.topic for heard in listener.heard("status")} == {"plant/line/box-replay/status"}
        assert listener.heard("state") == [], "what is retained of a station is the daemon's to say"


def test_alarms_that_could_not_be_published_fail_the_replay_and_go_with_the_next_one(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)  # not started yet
    config = write_config(tmp_path, broker=broker)
    command = ["replay", str(photos), "--config", str(config), "--out", str(tmp_path / "out"), "--publish"]
    assert main(command) == 1
    assert capsys.readouterr().out.splitlines()[4].startswith("3 pictures in")
    assert "3 messages could not be sent; the next --publish with this --out sends them" in caplog.text
    with broker, Listener(broker) as listener:
        assert main(command) == 0
        assert listener.ids("alarm") == [row["id"] for row in journalled(tmp_path / "out" / "journal.db")]


def test_publishing_needs_a_broker_in_the_config(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(photos), "--publish", "--config", str(write_config(tmp_path))]) == 78
    assert "--publish needs a --config with an mqtt section" in capsys.readouterr().err
    assert main(["replay", str(photos), "--publish"]) == 78


def test_an_interrupted_replay_keeps_and_sums_up_what_it_has_done(tmp_path: Path) -> None:
    for number in range(400):
        part(tmp_path / "photos" / f"{number}.png", number % 60)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "edge_agent.cli", "replay", tmp_path / "photos", "--out", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted: the rest was not inspected" in errors
    assert "contact sheet" in said
    assert (out / "contact_sheet.jpg").is_file()
    assert 0 < len(recorded(out)) < 400


def test_of_a_video_every_nth_frame_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = cv2.VideoWriter(str(tmp_path / "run.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 10, (64, 48))
    for number in range(9):
        video.write(np.ascontiguousarray(gradient(48, 64, 4 * number)[..., ::-1]))
    video.release()
    frames = replayed(capsys, tmp_path / "run.avi", "--every", 4, "--out", tmp_path / "out")
    assert [told["part_id"] for told in frames] == ["run-0", "run-4", "run-8"]


def test_a_reader_that_has_seen_enough_is_no_error_to_complain_of(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_agent.cli", "replay", photos, "--json", "--out", tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["part_id"] == "1"
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert process.returncode in (0, 1)  # it may have been done by then
