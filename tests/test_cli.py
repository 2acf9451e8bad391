"""The commands beside run and replay: --help, check, doctor, models; what they print, where, and how they end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import __version__
from edge_agent.backbones.families import catalog
from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.journal.journal import Journal
from edge_agent.mqtt.broker import default_client_id
from tests.agent import part, station, write_config
from tests.made import unprivileged_folder
from tests.mosquitto import Mosquitto
from tests.test_fetch import WEIGHTS

BAD = """\
stations:
  - name: cam 1
    source: {foldr: in}
    threshold: 7
  - name: cam2
    source: {folder: in}
    ignore: [[[0, 0], [1, 0], [1, 1], [0, 1]]]
mqtt: {prefix: a/#}
"""


@pytest.mark.parametrize("command", ["", "run", "replay", "check", "doctor", "models", "models fetch"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: edge-agent {command}".strip())
    assert all(re.search(rf"\s{re.escape(option)}\s+\S", said) for option in re.findall(r"\n  (--[a-z-]+)", said))


def test_help_and_version_load_nothing_that_takes_time() -> None:
    for option in ("--help", "--version"):
        script = (
            "import atexit, sys; from edge_agent.cli import main;"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
            f"main([{option!r}])"
        )
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        loaded = {name.partition(".")[0] for name in ended.stderr.split()}
        assert "edge_agent" in loaded
        assert not loaded & {"torch", "numpy", "cv2", "timm", "pydantic", "sqlalchemy", "yaml", "PIL", "tqdm"}
    assert ended.stdout == f"edge-agent {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["replay"], ["run", "--fast"], ["models", "fetch"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: edge-agent" in capsys.readouterr().err


def test_check_says_what_a_good_config_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, station("cam1", threshold=0.5), station("cam2"))
    assert main(["check", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "station   cam1" in said.out
    assert "NotOK     from score 0.5" in said.out
    assert f"warning   {config}:" in said.out, "its folder does not exist yet"
    assert said.out.endswith(f"\n{config} is good\n")
    assert said.err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"], "checking leaves nothing behind"


@pytest.mark.parametrize("command", ["check", "run", "doctor"])
def test_all_errors_of_a_bad_config_are_told_with_their_places(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(BAD)
    assert main([command, "--config", "bad.yaml"]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(": ")[:2] for line in said.err.splitlines()] == [
        ["bad.yaml:2:11", "stations[0].name"],
        ["bad.yaml:3:13", "stations[0].source.folder"],
        ["bad.yaml:3:14", "stations[0].source.foldr"],
        ["bad.yaml:4:16", "stations[0].threshold"],
        ["bad.yaml:8:7", "mqtt.host"],
        ["bad.yaml:8:16", "mqtt.prefix"],
    ]


def test_a_station_that_ignores_everything_is_an_error_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    config = write_config(tmp_path, station("cam1", ignore=everything), station("cam2", ignore=everything))
    assert main(["check", "--config", str(config)]) == 78
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{config}:\d+:\d+: stations\[0\].ignore: include and ignore leave nothing .*", first)
    assert "stations[1].ignore" in second


def test_without_a_config_the_file_that_was_looked_for_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
    assert main(["check"]) == 78
    assert capsys.readouterr().err == "config.yaml: does not exist: give --config FILE\n"


def test_the_doctor_is_content_with_a_machine_that_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
    assert main(["doctor"]) == 0
    *findings, summary = capsys.readouterr().out.splitlines()
    assert summary == "the agent would work here; no config.yaml was examined"
    assert [line.split()[1] for line in findings] == ["versions", "sqlite", "clock", "gpu", "detector"]
    assert re.search(r"embedded: tipsomaly/embedded on \w+, weights [0-9a-f]{12}, .*read [\d.]+ ms", findings[-1])


def test_the_doctor_examines_the_config_that_check_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
    (tmp_path / "config.yaml").write_text(BAD)
    assert main(["doctor"]) == 78
    assert "config.yaml:2:11: stations[0].name" in capsys.readouterr().err
    monkeypatch.setenv("EDGE_AGENT_CONFIG", str(tmp_path / "gone.yaml"))
    assert main(["doctor"]) == 78
    assert "gone.yaml: does not exist" in capsys.readouterr().err


def test_the_doctor_looks_at_what_a_config_needs_and_can_tell_it_to_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cam1").mkdir()
    with Mosquitto(tmp_path) as broker:
        near = station("cam2") | {"detector": {"windows": 2}}
        config = write_config(tmp_path, station("cam1"), near, broker=broker)
        assert main(["doctor", "--config", str(config), "--json"]) == 0
        assert not (tmp_path / "data").exists(), "examining makes no journal, which would be its own user's"
        assert "is made at the first start" in capsys.readouterr().out
        Journal.open(load_config(config).database.url).close()
        assert main(["doctor", "--config", str(config), "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {(finding["name"], finding["state"]): finding["text"] for finding in findings}
    assert [finding["text"].split(":")[0] for finding in findings if finding["name"] == "disk"] == [
        f"{tmp_path}/data", f"{tmp_path}/data/evidence",
    ]  # fmt: skip
    assert len([finding for finding in findings if finding["name"] == "detector"]) == 2
    assert "nothing waits to be sent" in told["journal", "ok"]
    assert told["source", "ok"] == f"cam1: {tmp_path}/cam1"
    assert told["source", "warning"] == f"cam2: {tmp_path}/cam2 is not there yet: the agent waits for it"
    assert told["broker", "ok"] == (
        f"127.0.0.1:{broker.port} answers, lets {default_client_id('box')} in, takes its 7 topics"
    )


def test_the_doctor_names_everything_that_would_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = Mosquitto(tmp_path)  # never started
    data = tmp_path / "data"
    data.mkdir()
    (data / "journal.db").write_text("a shopping list")
    part(tmp_path / "model" / "vision.npz")
    shutil.copy(EMBEDDED_CHECKPOINT, tmp_path / "prompts.safetensors")
    detector = {"model": "./model", "checkpoint": "prompts.safetensors"}
    config = write_config(tmp_path, station(detector=detector), broker=broker)
    assert main(["doctor", "--config", str(config)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "the agent would not work here: correct what failed"
    failed = {line.split()[1]: line for line in lines if line.startswith("failed")}
    assert failed.keys() == {"detector", "journal", "broker"}
    assert f"{tmp_path}/model" in failed["detector"]
    assert f"{data}/journal.db: this is not an SQLite database" in failed["journal"]
    assert f"no connection to 127.0.0.1:{broker.port}: nothing listens there: start the broker" in failed["broker"]


def test_a_model_without_prompts_is_a_bad_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, station(detector={"model": "tips-b14"}))
    assert main(["check", "--config", str(config)]) == 78
    assert "stations[0].detector.checkpoint: is missing: tips-b14 comes without prompts" in capsys.readouterr().err


def test_stations_that_watch_one_folder_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, station(), {**station(), "name": "cam2"})
    assert main(["check", "--config", str(config)]) == 0
    assert "is watched by stations[0] too" in capsys.readouterr().out


def test_the_doctor_names_folders_that_may_not_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    from edge_agent.diagnostics import doctor

    with unprivileged_folder() as folder:
        config = write_config(folder, evidence={"folder": "./closed/pictures"})
        for name in ("cam1", "closed"):
            (folder / name).mkdir(0)
        loaded = load_config(config)
        states = [finding for check in (doctor._disk, doctor._sources) for finding in check(loaded)]
    by_state = {finding.state: finding.text for finding in states}
    assert [finding.state for finding in states] == ["ok", "failed", "failed"]
    assert f"{folder}/cam1 cannot be read (Permission denied): let user" in by_state["failed"]
    assert f"{folder}/closed: cannot be written to (Permission denied)" in states[1].text


def test_the_doctor_looks_whether_requests_for_pictures_can_be_moved_aside() -> None:
    from edge_agent.sources.camera.check import examine_trigger_folder

    with unprivileged_folder() as folder:
        assert examine_trigger_folder("cam1", folder).state == "ok"
        assert not list(folder.iterdir())
        assert examine_trigger_folder("cam1", folder / "later").state == "warning"
        (folder / "closed").mkdir(0o500)
        closed = examine_trigger_folder("cam1", folder / "closed")
    assert (closed.name, closed.state) == ("trigger", "failed")
    assert f"cam1: {folder}/closed: cannot be written to (Permission denied): change its owner" in closed.text


def test_models_lists_what_is_known_and_what_is_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stick, models = tmp_path / "stick", tmp_path / "models"
    stick.mkdir()
    for name, content in WEIGHTS.items():
        (stick / name).write_bytes(content)
    assert main(["models", "--folder", str(models), "fetch", "tips-s14", "--from", str(stick)]) == 0
    assert capsys.readouterr().out == f"tips-s14 is in {models}/tips-s14\n"
    assert main(["models", "--folder", str(models)]) == 0
    table, closing = capsys.readouterr().out.split("\n\n")
    heading, *lines = table.splitlines()
    assert heading.split()[0] == "NAME"
    assert "clip:ViT-L-14-336/openai" in closing
    assert [line.split()[0] for line in lines] == list(catalog())
    here = {line.split()[0] for line in lines if not line.endswith("not fetched")}
    packaged = {name for name in catalog() if name.startswith("efficientnet")}  # here where their package is installed
    assert here - packaged == {"embedded", "tips-s14"}


def test_a_model_that_cannot_be_had_is_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "tips-s15"]) == 1
    assert "edge-agent: 'tips-s15' is no known backbone; did you mean tips-s14" in capsys.readouterr().err
    assert main(["models", "--folder", str(tmp_path), "fetch", "tips-s14", "--from", str(tmp_path / "usb")]) == 1
    assert f"{tmp_path}/usb: no such folder" in capsys.readouterr().err
