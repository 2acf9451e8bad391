"""What config.yaml may say, what it must not, and what whoever wrote it is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.entries import checkpoint_of
from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT, EMBEDDED_FOLDER
from edge_agent.backbones.tips.files import pinned_digest
from edge_agent.backbones.weights.digests import measure
from edge_agent.config.config import Config
from edge_agent.config.describe import describe
from edge_agent.config.load import default_path, load_config
from edge_agent.detectors.header import read_header
from edge_agent.errors import ConfigError
from edge_agent.line.calibration import read_calibration
from tests.made import gradient, png, unprivileged_folder

EXAMPLE = Path(__file__).parents[1] / "config.yaml"
MINIMAL = "stations: [{name: cam1, source: {folder: in}}]\n"
STATION = "stations:\n- name: cam1\n  source: {folder: in}\n"
CALIBRATION = {
    "schema": "edge-agent/calibration/1",
    "id": "c12",
    "threshold": 0.62,
    "map_threshold": 0.5,
    "false_alarm_rate": 0.001,
    "good_pictures": 4200,
    "model_sha256": pinned_digest(EMBEDDED_FOLDER),
    "checkpoint_sha256": measure(EMBEDDED_CHECKPOINT)["sha256"],
    "created": "2026-11-20T08:15:30Z",
}


def load(folder: Path, text: str | bytes) -> Config:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def errors(folder: Path, text: str | bytes) -> list[str]:
    """The errors in `text`, without the folder in front."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def the_error(folder: Path, text: str | bytes) -> str:
    (line,) = errors(folder, text)
    return line


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGE_AGENT_CONFIG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


# What comes of a good file


def test_the_smallest_config_has_all_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    (station,) = config.stations
    assert station.source.folder == tmp_path / "in"
    assert (station.detector.model, station.detector.class_name) == ("embedded", "object")
    assert (station.debounce.raise_after, station.debounce.of) == (1, 1)
    assert station.chosen_threshold() is None
    assert config.mqtt is None
    assert config.agent.data_dir == tmp_path / "edge-agent-data"
    assert config.database.full_url() == f"sqlite:///{tmp_path}/edge-agent-data/journal.db"
    assert config.evidence.folder == tmp_path / "edge-agent-data" / "evidence"
    assert re.fullmatch(r"[\w.-]+", config.agent.name)


def test_the_example_loads_as_it_is_and_says_that_it_waits_for_its_folder() -> None:
    config = load_config(EXAMPLE)
    assert config.mqtt is None
    assert describe(config)


def test_every_setting_that_the_example_offers_can_be_uncommented(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED_CHECKPOINT, tmp_path / "prompts.safetensors")
    for name in ("db-password", "page.pem", "page.key", "opcua.pem", "opcua.key"):
        (tmp_path / name).write_text("x")
    offered = re.sub(
        r"#: (?!calibration|method|trained_on|trigger)", "", EXAMPLE.read_text("utf-8")
    )  # each in place of another
    config = load(tmp_path, offered)
    assert config.mqtt is not None
    assert config.mqtt.prefix == "acme/plant1/assembly/line4"
    shown = EXAMPLE.read_text("utf-8")
    assert [key for key in keys_in(config.model_dump()) if f"{key}:" not in shown] == []


def keys_in(data: object) -> list[str]:
    if isinstance(data, dict):
        return [*data, *(key for value in data.values() for key in keys_in(value))]
    return [key for item in data for key in keys_in(item)] if isinstance(data, tuple) else []


def test_windows_want_a_threshold_found_with_them(tmp_path: Path) -> None:
    near = STATION + "  detector: {windows: 2}\n"
    assert ["detector.windows: raises scores" in one for one in load(tmp_path, near).warnings].count(True) == 1
    assert not any("detector.windows" in one for one in load(tmp_path, near + "  threshold: 0.6\n").warnings)


def test_a_method_stands_in_place_of_a_checkpoint_and_wants_a_threshold(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED_CHECKPOINT, tmp_path / "prompts.safetensors")
    unmeasured = load(tmp_path, STATION + "  detector: {model: tips-l14, method: winclip}\n")
    assert unmeasured.stations[0].detector.method == "winclip"
    assert ["nobody has measured a threshold" in one for one in unmeasured.warnings].count(True) == 1
    assert "method winclip" in describe(unmeasured)
    measured = load(tmp_path, STATION + "  threshold: 0.6\n  detector: {model: tips-l14, method: winclip}\n")
    assert not ["nobody" in one for one in measured.warnings].count(True)
    with pytest.raises(ConfigError, match="cannot be combined with method clip, which needs none: remove one of them"):
        load(tmp_path, STATION + "  detector: {method: clip, checkpoint: prompts.safetensors}\n")


def test_relative_paths_are_relative_to_the_file_and_tilde_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/inspector")
    config = load(tmp_path, STATION + "agent: {data_dir: ../data}\nevidence: {folder: ~/evidence}\n")
    assert config.agent.data_dir == tmp_path.parent / "data"
    assert config.database.url == f"sqlite:///{tmp_path.parent}/data/journal.db"
    assert config.evidence.folder == Path("/home/inspector/evidence")


def test_a_service_of_systemd_keeps_its_data_in_its_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-agent:/var/lib/other")
    assert load(tmp_path, MINIMAL).agent.data_dir == Path("/var/lib/edge-agent")


def test_the_environment_may_name_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_path() == Path("config.yaml")
    monkeypatch.setenv("EDGE_AGENT_CONFIG", "/etc/edge-agent/config.yaml")
    assert default_path() == Path("/etc/edge-agent/config.yaml")


def test_three_of_unsaid_many_means_three_in_a_row(tmp_path: Path) -> None:
    (station,) = load(tmp_path, STATION + "  debounce: {raise_after: 3}\n").stations
    assert station.debounce.of == 3


def test_the_port_follows_from_tls_unless_it_is_given(tmp_path: Path) -> None:
    ports = []
    for more in ("", ", tls: {}", ", tls: {}, port: 443"):
        mqtt = load(tmp_path, MINIMAL + f"mqtt: {{host: broker.example{more}}}").mqtt
        assert mqtt is not None
        ports.append(mqtt.port)
    assert ports == [1883, 8883, 443]


def test_stations_may_share_settings_by_alias_and_by_merge(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
stations:
- &first
  name: cam1
  source: {folder: in1}
  detector: &common {class_name: hazelnut, device: cpu}
  threshold: 0.5
- name: cam2
  source: {folder: in2}
  detector: *common
- <<: *first
  name: cam3
""",
    )
    assert [s.detector.class_name for s in config.stations] == ["hazelnut"] * 3
    assert [s.name for s in config.stations] == ["cam1", "cam2", "cam3"]
    assert [s.threshold for s in config.stations] == [0.5, None, 0.5]


@pytest.mark.parametrize("name", ["NO", "on", "0123", "1e3", "2026-11-20", "y", "Prüfplatz-3", "007.5"])
def test_text_is_what_was_written_and_no_number_date_or_truth(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f"stations: [{{name: {name}, source: {{folder: in}}}}]").stations[0].name == name


@pytest.mark.parametrize(
    ("written", "meant"), [("true", True), ("on", True), ("Yes", True), ("false", False), ("NO", False)]
)
def test_truth_may_be_written_in_every_way_of_yaml(tmp_path: Path, written: str, meant: bool) -> None:
    text = f"stations: [{{name: cam1, source: {{folder: in, recursive: {written}, polling: {written}}}}}]"
    source = load(tmp_path, text).stations[0].source
    assert (source.recursive, source.polling) == (meant, meant)


def test_a_number_may_be_written_in_scientific_notation(tmp_path: Path) -> None:
    assert load(tmp_path, STATION + "  min_area: 1e-4\n").stations[0].min_area == 1e-4


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + STATION.replace("\n", "\r\n").encode()).stations[0].name == "cam1"


def test_a_polygon_may_be_closed_explicitly(tmp_path: Path) -> None:
    (station,) = load(tmp_path, STATION + "  ignore: [[[0, 0], [1, 0], [1, 1], [0, 0]]]\n").stations
    assert station.ignore == (((0, 0), (1, 0), (1, 1)),)


def test_the_digest_is_of_the_meaning_not_of_the_spelling(tmp_path: Path) -> None:
    spelled_out = (
        "# all defaults\nlimits: {batch_size: 8, max_megapixels: 100}\nevidence: {keep_days: 30}\n"
        "stations:\n- source: {folder: './in', rescan_s: 60}\n  name: 'cam1'\n"
        "  min_area: 0\n  debounce: {raise_after: 1, of: 1, hysteresis: 0}\n"
    )
    assert load(tmp_path, MINIMAL).sha256 == load(tmp_path, spelled_out).sha256
    assert load(tmp_path, MINIMAL).sha256 != load(tmp_path, STATION + "  threshold: 0.5").sha256


def test_the_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.stations[0].threshold = 0.1


def test_a_config_can_be_made_without_a_file() -> None:
    config = Config.model_validate({"stations": [{"name": "demo", "source": {"folder": "samples"}}]})
    assert config.stations[0].source.folder == Path.cwd() / "samples"


def test_loading_imports_neither_torch_nor_opencv_nor_numpy() -> None:
    code = (
        "import sys; from pathlib import Path; from edge_agent.config.load import load_config;"
        f"load_config(Path({str(EXAMPLE)!r}));"
        "print([name for name in ('torch', 'cv2', 'numpy', 'sqlalchemy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# What is said of a bad one


def test_all_errors_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    assert errors(
        tmp_path,
        """\
agent:
  name: line 4
mqtt:
  host: mqtt://broker
  port: 99999
  reslts: on
evidence:
  originals: off
  keep_days: 0,5
stations:
  - name: cam1
    source: {folder: in, fodler: in}
    device: cuda
    threshold: 1.4
  - name: Cam1
    source: {folder: in}
    debounce: {raise_after: 3, of: 2}
    detector: {device: gpu, checkpoint: nope.safetensors}
  - 7
""",
    ) == [
        "config.yaml:2:9: agent.name: 'line 4' is no usable name, as it becomes an MQTT topic level and a folder: take"
        " up to 64 letters, digits, '-', '_' and '.', such as 'line-4'",
        "config.yaml:4:9: mqtt.host: 'mqtt://broker' is a URL: give the host alone; for mqtts:// add tls: {}",
        "config.yaml:5:9: mqtt.port: is '99999'; must be at most 65535",
        "config.yaml:6:3: mqtt.reslts: unknown key; did you mean 'results'?",
        "config.yaml:8:14: evidence.originals: is 'off'; wants 'none', 'not_ok' or 'all'; did you mean 'none'?",
        "config.yaml:9:14: evidence.keep_days: is '0,5'; wants a number, with a point instead of the comma",
        "config.yaml:12:26: stations[0].source.fodler: unknown key; did you mean 'folder'?",
        "config.yaml:13:5: stations[0].device: unknown key; did you mean 'detector: {device: ...}'?",
        "config.yaml:14:16: stations[0].threshold: is '1.4'; must be at most 1",
        "config.yaml:15:11: stations[1].name: 'Cam1' is the name of stations[0] already: take another",
        "config.yaml:17:36: stations[1].debounce.of: is 2; must be at least raise_after, 3",
        "config.yaml:18:24: stations[1].detector.device: is 'gpu'; wants 'auto', 'cpu' or 'cuda'; did you mean 'cuda'?",
        f"config.yaml:18:41: stations[1].detector.checkpoint: the file {tmp_path}/nope.safetensors does not exist",
        "config.yaml:19:5: stations[2]: is '7'; wants keys with values: name, source, detector, threshold, calibration,"
        " map_threshold, min_area, include, ignore, debounce, source_down_s",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: it needs at least one station"),
        ("# nothing\n", "is empty: it needs at least one station"),
        ("hello", ":1:1: is 'hello'; wants keys with values: agent, database"),
        ("[1]", ":1:1: is a list; wants keys with values"),
        ("agent: {name: x}", ":1:1: stations: is missing; for example stations: [{name: cam1"),
        ("stations: []", ":1:11: stations: wants at least one station"),
        ("stations:\n", ":1:1: stations: is empty: give it a value, or remove the key"),
        ("stations: [{source: {folder: in}}]", ":1:12: stations[0].name: is missing; for example name: cam1"),
        (
            "stations: [{name: cam1, source: {}}]",
            "stations[0].source.folder: is missing; for example folder: ./incoming",
        ),
        ("stations: [{name: cam1, source: in}]", "source: is 'in'; wants keys with values: folder, recursive"),
        (STATION + "  threshold:\n", ":4:3: stations[0].threshold: is empty: give it a value, or remove the key"),
        (STATION + "  threshold: high\n", ":4:14: stations[0].threshold: is 'high'; wants a number"),
        (STATION + "  threshold: .nan\n", "stations[0].threshold: is '.nan'; wants a number"),
        (STATION + "  threshold: nan\n", "stations[0].threshold: is 'nan'; wants a number"),
        (STATION + "  threshold: {a: 1}\n", "stations[0].threshold: is a group of keys; wants a number"),
        (STATION + "  map_threshold: 0\n", "stations[0].map_threshold: is '0'; must be more than 0"),
        (STATION + "  detector: {class_name: ''}\n", "class_name: is ''; wants some text"),
        (
            STATION + "  detector: {model: tips-b41}\n",
            "detector.model: 'tips-b41' is no known backbone; did you mean tips",
        ),
        (STATION + "  detector: {model: ./tips}\n", "/tips does not exist"),
        (
            STATION + "  detector: {image_size: 300}\n",
            "detector.image_size: is 300; must be a multiple of embedded's patch of 16 pixels: take 304",
        ),
        (STATION + "  detector: {windows: 9}\n", "detector.windows: is '9'; must be at most 8"),
        (STATION + "  debounce: {hysteresis: 0.6}\n  threshold: 0.5\n", "0.6 is not below the threshold 0.5"),
        (
            STATION + "  debounce: {hysteresis: 0.9}\n",
            ":4:13: stations[0].debounce: hysteresis 0.9 is not below the threshold 0.",
        ),
        (
            STATION + "  detector: {method: clip}\n  debounce: {hysteresis: 0.5}\n",
            "hysteresis 0.5 is not below the threshold 0.5 that is recommended: no alarm would clear",
        ),
        (
            STATION + "  min_area: 1.0\n",
            ":4:13: stations[0].min_area: is 1, but 1 of the picture is inspected: no defect",
        ),
        (
            STATION + "  min_area: 0.2\n  include: [[[0, 0], [0.4, 0], [0.4, 0.5], [0, 0.5]]]\n",
            "stations[0].min_area: is 0.2, but 0.2 of the picture is inspected: no defect would ever count",
        ),
        (
            STATION + "  include: [[[0.5, 0.5], [0.5001, 0.5], [0.5, 0.5001]]]\n",
            ":4:12: stations[0].include: leaves 0.0000% of the picture to inspect, which is too little to see anything in",
        ),
        (
            STATION.replace("in}", "in, patterns: [.*\\.png]}"),
            "'.*\\\\.png' can never match: hidden files and unfinished",
        ),
        (STATION.replace("in}", "in, patterns: ['*.TMP']}"), "'*.TMP' can never match: hidden files and unfinished"),
        (STATION.replace("in}", "in, patterns: ['*.png;*.jpg']}"), "'*.png;*.jpg' is taken as one name: write several"),
        (STATION.replace("in}", "in, patterns: ['*.{png,jpg}']}"), "'*.{png,jpg}' is taken as one name: write several"),
        (
            STATION + "  detector: {threshold: 0.5}\n",
            "4:14: stations[0].detector.threshold: unknown key here; threshold be",
        ),
        (
            STATION + "  debounce: {min_area: 0.5}\n",
            "min_area belongs beside debounce, not in it: indent it as debounce is",
        ),
        (
            STATION.replace("in}", r"C:\cam\in}"),
            "'C:\\\\cam\\\\in' is a Windows path: write it with / and without a drive",
        ),
        (
            STATION.replace("in}", r"cam\in}"),
            "is a Windows path: write it with / and without a drive, as this machine has",
        ),
        (STATION.replace("in}", r"\\nas\in}"), "is a Windows share: mount it on this machine (mount -t cifs)"),
        (STATION.replace("in}", "smb://nas/in}"), "'smb://nas/in' is an address, no path: mount what it leads to"),
        (STATION.replace("in}", "$HOME/in}"), "'$HOME/in' has the variable $HOME, which is not replaced here: write"),
        (
            STATION.replace("in}", "'/data/${LINE}/in'}"),
            "has the variable ${LINE}, which is not replaced here: write the",
        ),
        (
            STATION + "  detector: {class_name: \u201cmetal plate\u201d}\n",
            ":4:26: stations[0].detector.class_name: is in typographic",
        ),
        (
            STATION.replace("cam1", "\u201ecam1\u201c"),
            ":2:9: stations[0].name: is in typographic quotes, which YAML does not know",
        ),
        (STATION + "name: x\n", ":4:1: name: unknown key; did you mean 'agent: {name: ...}'?"),
        (
            STATION + "xyzzy: x\n",
            "xyzzy: unknown key; known here: agent, database, mqtt, opcua, evidence, limits, labels, learn, health, page, stations",
        ),
        (STATION + "'a b': x\n", ":4:1: 'a b': unknown key"),
        (STATION + "limits: {batch_size: 1.5}", "limits.batch_size: is '1.5'; wants a whole number"),
        (STATION + f"limits: {{batch_size: {'9' * 5000}}}", "wants a whole number"),
        (STATION + "limits: {batch_size: 0}", "limits.batch_size: is '0'; must be at least 1"),
        (STATION + "evidence: {folder: ''}", "evidence.folder: is empty: give a path"),
        (STATION + "evidence: {folder: [a]}", "evidence.folder: is a list; wants a path"),
        (STATION + "evidence: {folder: config.yaml}", "config.yaml is not a folder"),
        (STATION + "agent: {data_dir: config.yaml/x/" + "y" * 300 + "}\nfoo: 1", "foo: unknown key"),
        (STATION + "mqtt: {prefix: line4}", "mqtt.host: is missing; for example host: broker.example"),
        (STATION + "mqtt: {host: 'broker:1883'}", "mqtt.host: 'broker:1883' has a port in it: give it as port: 1883"),
        (STATION + "mqtt: {host: b, prefix: a/+/b}", "mqtt.prefix: the topic level '+' has '+' in it"),
        (STATION + "mqtt: {host: b, prefix: a/b c}", "mqtt.prefix: the topic level 'b c' has ' ' in it"),
        (STATION + "mqtt: {host: b, prefix: $SYS}", "'$SYS' has '$' in it"),
        (STATION + "mqtt: {host: b, prefix: a#}", "'a#' has '#' in it"),
        (STATION + "mqtt: {host: b, prefix: /a/}", "mqtt.prefix: the topic '/a/' has an empty level"),
        (STATION + "mqtt: {host: b, results: maybe}", "mqtt.results: is 'maybe'; wants true or false"),
        (STATION + "mqtt: {host: b, client_id: a b}", "mqtt.client_id: is 'a b'; wants letters, digits"),
        (STATION + "mqtt: {host: b, tls: {cert: config.yaml}}", "mqtt.tls.key: cert and key go together"),
        (STATION + "mqtt: {host: b, tls: {ca: ca.pem}}", "/ca.pem does not exist"),
        (STATION + "mqtt: {host: b, tls: {ca: .}}", "is not a file"),
        (STATION + "mqtt: {host: b, password: {}}", "mqtt.password: wants exactly one of file, env, credential"),
        (STATION + "mqtt: {host: b, password: {env: A, credential: b}}", "wants exactly one of file, env, credential"),
        (
            STATION + "mqtt: {host: b, password: {credential: ../x}}",
            "mqtt.password.credential: is '../x'; wants letters",
        ),
        (STATION + "database: postgres://u@h/db", ":4:11: database.url: wants sqlite:///FILE or postgresql+psycopg://"),
        (STATION + "database: mysql://u@h/db", "database.url: wants sqlite:///FILE"),
        (STATION + "database: 'sqlite://'", "the journal has to outlive the agent"),
        (STATION + "database: {url: 'sqlite:///:memory:'}", "the journal has to outlive the agent"),
        (STATION + "database: postgresql+psycopg://u@h:x/db", "is not a valid URL"),
        (STATION + "database: postgresql+psycopg://u@h", "names no database"),
        (STATION + "database: {password: {env: X}}", "database.password: has no use"),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in the_error(tmp_path, text)


@pytest.mark.parametrize(
    ("polygons", "said"),
    [
        ("[[[0, 0], [1, 1]]]", "ignore[0]: has 2 points; a polygon needs at least 3"),
        ("[[[0, 0], [1, 0], [0, 0]]]", "has 2 points"),
        ("[[[0, 0], [0.5, 0.5], [1, 1]]]", "ignore[0]: has no area"),
        ("[[[0, 0], [1, 1], [1, 0], [0, 1]]]", "ignore[0]: crosses itself: the sides after points 1 and 3 meet"),
        ("[[[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]]]", "crosses itself"),
        ("[[[0, 0], [1, 0], [1, 0], [0, 1]]]", "has the same point twice"),
        (
            "[[[0, 0], [640, 0], [0, 1]]]",
            "ignore[0][1][0]: is '640'; must be at most 1: divide pixels by the picture's",
        ),
        ("[[[0, 0], [1, -0.1], [0, 1]]]", "ignore[0][1][1]: is '-0.1'; must be at least 0"),
        ("[[[0, 0], [1], [0, 1]]]", "ignore[0][1][1]: is missing: a point is [x, y]"),
        ("[[[0, 0], [1, 0, 0], [0, 1]]]", "ignore[0][1]: is a list; wants a point [x, y]"),
        ("[[0, 0], [1, 0], [1, 1]]", "ignore: is a single polygon: wants a list of them"),
        ("[[[0, 0], corner, [1, 1]]]", "ignore[0][1]: is 'corner'; wants a list"),
        (f"[[{', '.join(f'[{i / 500}, {i % 2}]' for i in range(300))}]]", "has 300 points; at most 200"),
    ],
)
def test_a_bad_polygon_is_refused_with_its_reason(tmp_path: Path, polygons: str, said: str) -> None:
    assert said in the_error(tmp_path, STATION + f"  ignore: {polygons}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent:\n\tname: x\n", "config.yaml:2:1: is not valid YAML: "),
        ("agent:\n\tname: x\n", "indent with spaces, not with tabs"),
        ("agent: name: x\n", "config.yaml:1:12: is not valid YAML: mapping values are not allowed here; put text that"),
        ("stations:\n- name: a\n source: b\n", "check the indentation"),
        ("agent: {name: x\n", "a bracket is not closed"),
        ("agent: {name: 'x}\n", "a quote is not closed"),
        ('agent:\n  data_dir: "C:\\data"\n', "config.yaml:2:17: is not valid YAML: "),
        ('agent:\n  data_dir: "C:\\data"\n', "put Windows paths in 'single' quotes"),
        ("patterns: [*.png]\n", "put text that begins with * in quotes"),
        ("agent: @home\n", "put text that begins with this character in quotes"),
        ("agent: *nobody\n", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "remove the line '---'"),
        (
            "agent: !!python/object/apply:os.system [ls]\n",
            "has the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("agent: !secret x\n", "config.yaml:1:8: agent: has the tag '!secret': tags are not supported, remove it"),
        ("agent: {name: a, data_dir: b,\n name: c}\n", "config.yaml:2:2: agent.name: is given twice, first in line 1"),
        ("? [a, b]\n: c\n", "config.yaml:1:3: has a key that is not a plain word"),
        ("agent: {name: |\n  a\n  b\n  }\n", "is not valid YAML"),
        ("agent:\n  name: |\n    a\n    b\n", "config.yaml:2:9: agent.name: has a line break or a control character"),
        ('agent: {name: "\\ud800"}\n', "agent.name: has a line break or a control character in its text"),
        ('agent: {name: "\\0"}\n', "agent.name: has a line break or a control character in its text"),
        ('agent: {name: "\\UFFFFFFFF"}\n', "a number or character code is out of range"),
        ("agent: {name: a\x07b}\n", "config.yaml:1:16: has the character '\\x07': remove it"),
        ("agent: " + "[" * 500, "nested deeper than 20 levels"),
        ("a: &a [*a]\n", "holds more than 20000 values or 20 levels, aliases included"),
        ("a: &a {<<: *a, b: c}\n", "a: unknown key"),
        (b"agent: {name: M\xfcller}\n", "config.yaml:1: is not UTF-8 text: save it as UTF-8"),
        ("agent: {}\n".encode("utf-16"), "config.yaml:1: is not UTF-8 text"),
        (b"#" * 300_000, "config.yaml: is larger than 256 KiB: this is not a config file"),
    ],
)
def test_bad_yaml_is_explained_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert any(said in line for line in errors(tmp_path, text))


def test_aliases_of_aliases_cannot_blow_up_the_agent(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 15))
    merges = "a0: &a0 {x: y}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 15)
    )
    assert "holds more than 20000 values" in the_error(tmp_path, bomb)
    assert "a14: unknown key" in errors(tmp_path, merges)[-1]


def test_a_thousand_errors_do_not_flood_the_screen(tmp_path: Path) -> None:
    said = errors(tmp_path, STATION + "".join(f"unknown{i}: 1\n" for i in range(1000)))
    assert len(said) == 101
    assert said[-1] == "config.yaml: and 900 more"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: does not exist: give --config FILE"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is a folder: name the file in it"):
        load_config(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(MINIMAL)
    (tmp_path / "config.yaml").chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "text",
    [
        STATION + "evidence: {folder: in}\n",
        STATION + "evidence: {folder: .}\n",
        "stations: [{name: cam1, source: {folder: ., recursive: true}}]",
    ],
)
def test_a_station_cannot_inspect_the_pictures_that_the_agent_keeps(tmp_path: Path, text: str) -> None:
    assert "source.folder: would inspect the agent's own pictures" in the_error(tmp_path, text)


def test_a_folder_beside_the_evidence_may_be_watched(tmp_path: Path) -> None:
    assert load(tmp_path, "stations: [{name: cam1, source: {folder: .}}]")


def test_a_source_folder_may_come_later_and_the_user_is_told(tmp_path: Path) -> None:
    warned = f"{tmp_path}/config.yaml:3:20: stations[0].source.folder: {tmp_path}/in does not exist yet"
    (warning,) = load(tmp_path, STATION).warnings
    assert warning.startswith(warned)
    (tmp_path / "in").mkdir()
    assert load(tmp_path, STATION).warnings == ()


# Passwords


@pytest.mark.parametrize(
    "secret",
    [
        "mqtt: {host: b, password: hunter2}",
        "mqtt: {host: b, password: [hunter2]}",
        "mqtt: {host: b, passwort: hunter2}",
        "database: postgresql+psycopg://me:hunter2@h/db",
        "database: postgresql+psycopg://h/db?password=hunter2",
        "database: postgresql+psycopg://me:hunter2@h:x/db",
        "database: postgres://me:hunter2@h/db",
    ],
)
def test_a_password_in_plain_text_is_refused_and_not_repeated(tmp_path: Path, secret: str) -> None:
    assert "hunter2" not in the_error(tmp_path, STATION + secret)


def test_the_refusal_says_where_passwords_belong(tmp_path: Path) -> None:
    said = the_error(tmp_path, STATION + "mqtt: {host: b, password: hunter2}")
    assert "mqtt.password: is refused in plain text" in said
    assert "{file: PATH}, or {env: VARIABLE}, or {credential: NAME}" in said


def test_a_password_comes_from_a_file_the_environment_or_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "secret").chmod(0o600)
    monkeypatch.setenv("BROKER_PASSWORD", "s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for place in ("file: secret", "env: BROKER_PASSWORD", "credential: secret"):
        config = load(tmp_path, MINIMAL + f"mqtt: {{host: localhost, password: {{{place}}}}}")
        assert config.mqtt is not None
        assert config.mqtt.password is not None
        assert config.mqtt.password.read() == "s3cret"
        assert "s3cret" not in repr(config) + describe(config)
        assert not any("mqtt" in warning for warning in config.warnings)


def test_a_password_that_only_the_service_has_is_a_warning_until_it_is_needed(tmp_path: Path) -> None:
    for place in ("env: EDGE_AGENT_TEST_UNSET", "credential: mqtt"):
        config = load(tmp_path, MINIMAL + f"mqtt: {{host: localhost, password: {{{place}}}}}")
        assert any("mqtt.password: the " in warning for warning in config.warnings)
        assert config.mqtt is not None
        assert config.mqtt.password is not None
        with pytest.raises(ConfigError, match=r"not set for this process|only when systemd starts the agent"):
            config.mqtt.password.read()


def test_an_empty_password_file_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    config = load(tmp_path, MINIMAL + "mqtt: {host: localhost, password: {file: secret}}")
    assert config.mqtt is not None
    assert config.mqtt.password is not None
    with pytest.raises(ConfigError, match="secret is empty"):
        config.mqtt.password.read()


def test_careless_passwords_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "secret").chmod(0o644)
    config = load(tmp_path, MINIMAL + "mqtt: {host: broker.example, password: {file: secret}}")
    warnings = "\n".join(config.warnings)
    assert "mqtt.password: goes over the network unencrypted: add tls: {}" in warnings
    assert f"mqtt.password.file: everyone may read {tmp_path}/secret: chmod 600" in warnings


def test_the_database_password_is_put_into_the_url_only_to_connect(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/wörd")
    url = "postgresql+psycopg://me@db.example:5432/inspections?sslmode=require"
    database = load(tmp_path, MINIMAL + f"database: {{url: '{url}', password: {{file: secret}}}}").database
    assert database.url == url
    full = "postgresql+psycopg://me:p%40ss%2Fw%C3%B6rd@db.example:5432/inspections?sslmode=require"
    assert database.full_url() == full


# Calibration


def calibration_file(folder: Path, **changes: object) -> Path:
    path = folder / "calibration.json"
    path.write_text(json.dumps({k: v for k, v in (CALIBRATION | changes).items() if v is not ...}))
    return path


def test_a_station_takes_its_threshold_from_its_calibration(tmp_path: Path) -> None:
    calibration_file(tmp_path)
    (station,) = load(tmp_path, STATION + "  calibration: calibration.json\n").stations
    assert station.calibration is not None
    assert station.calibration.id == "c12"
    assert (station.chosen_threshold(), station.chosen_map_threshold()) == (0.62, 0.5)


def test_map_threshold_in_the_config_wins_over_the_calibration(tmp_path: Path) -> None:
    calibration_file(tmp_path)
    text = STATION + "  calibration: calibration.json\n  map_threshold: 0.7\n"
    assert load(tmp_path, text).stations[0].chosen_map_threshold() == 0.7


def test_a_new_calibration_in_the_same_file_changes_the_digest(tmp_path: Path) -> None:
    calibration_file(tmp_path)
    before = load(tmp_path, STATION + "  calibration: calibration.json\n").sha256
    calibration_file(tmp_path, threshold=0.63)
    assert load(tmp_path, STATION + "  calibration: calibration.json\n").sha256 != before


def test_threshold_and_calibration_exclude_each_other(tmp_path: Path) -> None:
    calibration_file(tmp_path)
    said = the_error(tmp_path, STATION + "  threshold: 0.5\n  calibration: calibration.json\n")
    assert said == "config.yaml:5:16: stations[0].calibration: threshold and calibration exclude each other: remove one"


def test_all_errors_of_a_calibration_are_told_with_file_and_key(tmp_path: Path) -> None:
    path = calibration_file(tmp_path, threshold=1.4, good_pictures="many", model_sha256="abc", id=...)
    with pytest.raises(ConfigError) as caught:
        read_calibration(path)
    said = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in said] == [
        "id",
        "threshold",
        "good_pictures",
        "model_sha256",
    ]
    assert said[1] == f"{path}: threshold: input should be less than or equal to 1"
    in_config = the_error(tmp_path, STATION + "  calibration: calibration.json\n")
    assert in_config.startswith(f"config.yaml:4:16: stations[0].calibration: {path}: id: is missing")
    assert "good_pictures: " in in_config


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"schema": "x"}', b" " * (2 << 20)]
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "calibration.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"calibration\.json:(1:)? "):
        read_calibration(tmp_path / "calibration.json")


def test_a_calibration_is_refused_for_other_weights_and_for_another_checkpoint(tmp_path: Path) -> None:
    calibration = read_calibration(calibration_file(tmp_path, model_sha256="a" * 64, checkpoint_sha256="b" * 64))
    calibration.require_fit("a" * 64, "b" * 64, 224)
    with pytest.raises(ConfigError, match="c12 was made with the model weights aaaaaaaaaaaa, the station uses cccccc"):
        calibration.require_fit("c" * 64, "b" * 64, 224)
    with pytest.raises(ConfigError, match="c12 was made with the checkpoint bbbbbbbbbbbb, the station uses cccccc"):
        calibration.require_fit("a" * 64, "c" * 64, 224)
    sized = calibration.model_copy(update={"image_size": 224})
    sized.require_fit("a" * 64, "b" * 64, 224)
    with pytest.raises(ConfigError, match="c12 was made with image_size 224, the station reads with 320"):
        sized.require_fit("a" * 64, "b" * 64, 320)
    with pytest.raises(ConfigError, match="c12 was made with windows 1, the station reads with 3"):
        sized.require_fit("a" * 64, "b" * 64, 224, 3)
    with pytest.raises(ConfigError, match="c12 was made with squares False, the station reads with True"):
        sized.require_fit("a" * 64, "b" * 64, 224, 1, squares=True)


def test_a_checkpoint_of_another_backbone_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    header = dict(read_header(EMBEDDED_CHECKPOINT))
    for name, changes in (
        ("trained-again", {"backbone_sha256": "c" * 64}),
        ("other-model", {"backbone": "tips-l14", "backbone_sha256": "c" * 64}),
        ("other-method", {"method": "guess"}),
        ("no-number", {"threshold": float("nan")}),
    ):
        (tmp_path / name).write_bytes(checkpoint_of(header | changes))
    (tmp_path / "torn").write_bytes(EMBEDDED_CHECKPOINT.read_bytes()[:100])
    station = "stations:\n- name: cam1\n  source: {folder: in}\n  detector: {model: MODEL, checkpoint: FILE}\n"
    for model, file, said in (
        (
            "embedded",
            "trained-again",
            "trained-again was fitted for embedded (cccccccccccc); the station uses embedded (2d",
        ),
        (
            "embedded",
            "other-model",
            "other-model was fitted for tips-l14 (cccccccccccc); the station uses embedded (2d",
        ),
        ("tips-b14", "other-model", "was fitted for tips-l14 (cccccccccccc); the station uses tips-b14 (not fetched)"),
        (
            "embedded",
            "other-method",
            "is of the method 'guess'; this version knows tipsomaly, vip2clip, cops, patchcore",
        ),
        ("embedded", "no-number", "header says threshold: nan; copy it again or refit"),
        ("embedded", "torn", "not a prompt checkpoint of edge-agent, or damaged"),
    ):
        found = the_error(tmp_path, station.replace("MODEL", model).replace("FILE", file))
        assert re.match(r"config\.yaml:4:\d\d: stations\[0\]\.detector\.checkpoint: ", found)
        assert said in found
    text = station.replace("MODEL", "tips-l14").replace("FILE", "other-model")
    assert "tips-l14 is not on this machine: run `edge-agent models fetch tips-l14`" in str(
        load(tmp_path, text).warnings
    )


def test_a_calibration_of_another_checkpoint_or_reading_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    text = STATION + "  calibration: calibration.json\n"
    for changes, said in (
        ({"checkpoint_sha256": "b" * 64}, "c12 was made with the checkpoint bbbbbbbbbbbb, the station uses"),
        ({"model_sha256": "b" * 64}, "c12 was made with the model weights bbbbbbbbbbbb, the station uses"),
        ({"image_size": 448}, "c12 was made with image_size 448, the station reads with 224"),
        ({"windows": 2}, "c12 was made with windows 2, the station reads with 1"),
    ):
        calibration_file(tmp_path, **changes)
        assert the_error(tmp_path, text).startswith(f"config.yaml:4:16: stations[0].calibration: calibration {said}")


def test_an_anchor_may_be_defined_again_as_yaml_allows(tmp_path: Path) -> None:
    first, second, third = load(
        tmp_path,
        """\
stations:
- {name: cam1, source: {folder: a}, debounce: &rule {raise_after: 2}}
- {name: cam2, source: {folder: b}, debounce: &rule {raise_after: 3}}
- {name: cam3, source: {folder: c}, debounce: *rule}
""",
    ).stations
    assert [one.debounce.raise_after for one in (first, second, third)] == [2, 3, 3]


@pytest.mark.parametrize(
    ("threshold", "said"), [("1.0", "hardly any defect will be NotOK"), ("0", "every picture will be")]
)
def test_a_threshold_that_tells_nothing_apart_is_told(tmp_path: Path, threshold: str, said: str) -> None:
    assert said in str(load(tmp_path, STATION + f"  threshold: {threshold}\n").warnings)


def test_a_folder_that_may_not_be_read_is_an_error_for_check_alone_as_a_running_agent_waits_for_it() -> None:
    with unprivileged_folder() as folder:
        (folder / "in").mkdir(mode=0o300)
        assert load(folder, STATION).stations
        with pytest.raises(
            ConfigError, match=r"config\.yaml:3:20: stations\[0\]\.source\.folder: .*/in cannot be read \(Perm"
        ):
            load_config(folder / "config.yaml", thorough=True)


@pytest.mark.parametrize(
    ("shape", "more", "is_told"),
    [
        ((32, 96), "  detector: {squares: false}\n", True),
        ((32, 47), "  detector: {squares: false}\n", False),
        ((32, 96), "", False),
        ((32, 96), "  calibration: calibration.json\n", True),  # made before pictures were read in squares
    ],
)
def test_check_tells_of_pictures_that_are_squeezed_into_a_square(
    tmp_path: Path, shape: tuple[int, int], more: str, is_told: bool
) -> None:
    calibration_file(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(gradient(*shape)))
    text = "'a.png' has 96 x 32 pixels and is squeezed into a square, which hides small defects: set squares: true"
    assert not any(text in one for one in load(tmp_path, STATION + more).warnings), "a start opens no picture"
    said = load_config(tmp_path / "config.yaml", thorough=True).warnings
    assert any(text in one and "stations[0].detector: " in one for one in said) is is_told


# In plain words


def test_the_description_says_what_the_agent_will_do(tmp_path: Path) -> None:
    calibration_file(tmp_path, image_size=320, windows=3)
    (tmp_path / "in").mkdir()
    config = load(
        tmp_path,
        STATION
        + """\
  calibration: calibration.json
  ignore: [[[0, 0], [1, 0], [0, 1]]]
  debounce: {raise_after: 2, of: 3, hysteresis: 0.05}
  detector: {image_size: 320, windows: 3}
agent: {name: box1}
mqtt: {host: broker.example, tls: {}, username: line4, prefix: acme/line4, results: true}
""",
    )
    assert (
        describe(config)
        == f"""\
agent     box1, config {config.sha256[:12]}
journal   sqlite:///{tmp_path}/edge-agent-data/journal.db, for 730 days, up to 10 GB
evidence  {tmp_path}/edge-agent-data/evidence; originals: of NotOK, overlays: of NotOK (jpg); for 30 days, up to 20 GB
mqtt      mqtts://broker.example:8883 as line4; acme/line4/box1/STATION/{{alarm,result,state}}, acme/line4/box1/status

station   cam1
  watches   {tmp_path}/in: every picture
  looks at  'object' with model embedded at 320 pixels, in 3 x 3 windows too; on the GPU if there is one
  NotOK     from score 0.62 (calibration c12: 4200 good pictures, 0.100% false alarms)
  alarm     when 2 of the last 3 pictures are NotOK; clears 0.05 below the threshold
  area      the whole picture, 1 ignore polygons"""
    )


# Anything at all

_WORDS = [
    "agent",
    "name",
    "mqtt",
    "host",
    "port",
    "tls",
    "ca",
    "password",
    "env",
    "file",
    "stations",
    "source",
    "folder",
]
_WORDS += ["cam1", "in", "ignore", "include", "threshold", "calibration", "0.5", "1", "on", "", "~", "<<", "detector"]
_WORDS += [
    "database",
    "url",
    "sqlite:///x.db",
    "postgresql+psycopg://[u@h/db",
    "camera",
    "rtsp://[u@h",
    "a ! b",
    "debounce",
    "of",
    "evidence",
]
_scalar = st.one_of(
    st.sampled_from(_WORDS), st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none(), st.dates()
)
_data = st.recursive(
    _scalar,
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), x),
    max_leaves=20,
)
_yaml = _data.map(lambda data: yaml.safe_dump(data, allow_unicode=True))
_SYNTAX = [": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ",", "&a ", "*a ", "'", '"', ">\n", "!!int ", "? ", "#", "\t"]
_SYNTAX += ["%YAML 9", "\\x", "\\U"]
_syntax = st.lists(st.sampled_from(_WORDS + _SYNTAX)).map("".join)


def _any_text_gives_a_config_or_a_config_error(folder: Path, content: bytes) -> None:
    path = folder / "config.yaml"
    path.write_bytes(content)
    try:
        config = load_config(path)
    except ConfigError as error:
        said = str(error).splitlines()
    else:
        said = [*config.warnings, f"{path}: {config.sha256}", f"{path}: {describe(config)}"]
    assert said
    assert all(line.startswith(str(path)) for line in said)


_many = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_many
@given(text=st.text() | _yaml | _syntax)
def test_any_text_gives_a_config_or_a_config_error(tmp_path: Path, text: str) -> None:
    _any_text_gives_a_config_or_a_config_error(tmp_path, text.encode(errors="surrogatepass"))


@_many
@given(content=st.binary())
def test_any_bytes_give_a_config_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    _any_text_gives_a_config_or_a_config_error(tmp_path, content)


@_many
@given(data=st.data())
def test_any_change_of_a_good_config_gives_a_config_or_a_config_error(tmp_path: Path, data: st.DataObject) -> None:
    tree = {
        "agent": {"name": "a", "data_dir": "d"},
        "database": {"url": "sqlite:///x.db", "password": {"env": "X"}},
        "mqtt": {"host": "b", "port": 1, "prefix": "p", "tls": {}, "password": {"env": "X"}, "results": True},
        "evidence": {"originals": "all", "keep_days": 3},
        "stations": [
            {
                "name": "cam1",
                "source": {"folder": "in", "patterns": ["*.png"], "polling": "auto"},
                "detector": {"class_name": "nut"},
                "threshold": 0.5,
                "ignore": [[[0, 0], [1, 0], [1, 1]]],
                "debounce": {"raise_after": 2, "of": 3},
            },
            {
                "name": "cam2",
                "source": {
                    "camera": "rtsp://u@h/x",
                    "password": {"env": "X"},
                    "roi": [0, 0, 1, 1],
                    "rotate": 90,
                    "trigger": {"folder": "t", "timeout_s": 1},
                },
            },
        ],
    }
    node: object = tree
    while True:  # walk down to some place, and put something else there
        assert isinstance(node, dict | list)
        key = data.draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        child = node[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            node[key] = data.draw(_data)
            break
        node = child
    _any_text_gives_a_config_or_a_config_error(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())
