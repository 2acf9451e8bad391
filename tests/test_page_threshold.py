"""The threshold: what another one would have done, and what that promises."""

from __future__ import annotations

import re
import shutil

import pytest
from starlette.testclient import TestClient

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT, EMBEDDED_FOLDER
from edge_agent.backbones.tips.files import pinned_digest
from edge_agent.backbones.weights.digests import measure
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.review import open_review
from edge_agent.journal.rows import LabelValue
from edge_agent.line.calibration import Calibration
from edge_agent.page.changes import NAME, Changes
from edge_agent.page.configuring.config_file import ConfigFile
from edge_agent.page.deciding.bound import upper_bound
from edge_agent.page.deciding.outcome import BINS, bars, outcome
from edge_agent.page.deciding.saving import Note
from edge_agent.page.deciding.saving import save as save_threshold
from tests.pages import accounts_of, journal_of, page, part, shift, sign_in, token_in


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    [
        (0, 1, 0.95),
        (1, 1, 1.0),
        (7, 1, 1.0),
        (59, 1, 1.0),
        (0, 60, 0.04870291331),
        (1, 60, 0.076639994935),
        (7, 60, 0.207990937191),
        (59, 60, 0.999145477073),
        (0, 1000, 0.002991249545),
        (1, 1000, 0.004734993575),
        (7, 1000, 0.013107715417),
        (59, 1000, 0.072755267139),
    ],
)
def test_the_bound_is_that_of_clopper_and_pearson(failures, trials, bound):
    assert upper_bound(failures, trials) == pytest.approx(bound, abs=1e-9)  # scipy.stats.beta.ppf(0.95, k + 1, n - k)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threshold")
    held = journal_of(folder, [*shift(), part(30, Evaluation.NOT_DECIDABLE, None, reason="dark")])
    with open_labels(f"sqlite:///{folder}/journal.db") as labels:
        for place, value in (
            (0, LabelValue.GOOD),
            (1, LabelValue.GOOD),
            (2, LabelValue.DEFECT),
            (5, LabelValue.DEFECT),
        ):
            labels.say(Statement(held[place].id, value), "anna")
    return folder


def test_a_threshold_is_tried_on_the_last_parts_and_on_those_that_are_known(scored):
    with open_review(f"sqlite:///{scored}/journal.db") as journal:
        scores = journal.scores("cam1", 1000)
    assert sorted(scores.last) == pytest.approx([0.1, 0.6, 0.7, 0.9])
    assert sorted(scores.good) == pytest.approx([0.1, 0.9])
    now, lower = outcome(scores, scores.threshold), outcome(scores, 0.5)
    assert (now.threshold, now.not_ok, now.rejected, now.found) == (0.62, 2, 1, 1)
    assert (lower.not_ok, lower.rejected, lower.found) == (3, 1, 2)
    assert now.promised == pytest.approx(upper_bound(1, 2))
    assert [sum(column) for column in zip(*bars(scores), strict=True)] == [4, 2, 2]
    assert len(bars(scores)) == BINS


def test_the_view_says_it_without_scripts_and_what_to_write_where(scored):
    with page(scored) as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        html = client.get("/threshold?station=cam1&threshold=0.5").text
        assert re.search(r"of the last 4 parts, not OK</th><td>2</td><td data-asked=\"last\">3</td>", html)
        assert re.search(r"of 2 known defects, found</th><td>1</td><td data-asked=\"defects\">2</td>", html)
        assert 'threshold: <span data-asked="yaml">0.500</span>' in html
        for wrong in ("nan", "2", "-1", "x", "inf"):
            assert client.get(f"/threshold?threshold={wrong}").status_code == 400
        assert client.get("/threshold?station=cam9").status_code == 404


CONFIG = """# our line
agent: {data_dir: .}
stations:
- name: cam1   # the press
  source: {folder: in}
  calibration: cam1-2-calibration.json  # of May
- {name: cam2, source: {folder: in2}}
"""


@pytest.fixture
def line(tmp_path, scored):
    """A page of an engineer beside an agent that does not run, and its config.yaml."""
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    calibration = Calibration.model_validate(
        {
            "schema": "edge-agent/calibration/1",
            "id": "c-1",
            "threshold": 0.6187342,
            "false_alarm_rate": 0.01,
            "false_alarm_interval": (0.002, 0.03),
            "good_pictures": 200,
            "model_sha256": pinned_digest(EMBEDDED_FOLDER),
            "checkpoint_sha256": measure(EMBEDDED_CHECKPOINT)["sha256"],
            "created": "2026-11-20T08:00:00Z",
            "score_quantiles": {"0": 0.1, "50": 0.3, "95": 0.45, "99": 0.6, "100": 0.65},
        },
        strict=False,
    )
    (tmp_path / "cam1-2-calibration.json").write_text(calibration.model_dump_json(by_alias=True))
    config = write(tmp_path / "config.yaml", CONFIG)
    with page(tmp_path, accounts=accounts_of(tmp_path), stations=("cam1", "cam2"), config=config) as app:
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)
        sign_in(client, "erika")
        yield client, config


def write(path, text):
    path.write_text(text)
    return path


def form(client, station="cam1", **fields):
    html = client.get(f"/threshold?station={station}").text
    hidden = dict(re.findall(r'<input type="hidden" name="(station|seen|exact)" value="([^"]*)">', html))
    return {"token": token_in(html.partition("data-save")[2]), **hidden, "name": "finer", "reason": "dust", **fields}


def save(client, **fields):
    return client.post("/threshold", data=fields)


def used(config, station="cam1"):
    return load_config(config).station(station)


def test_a_saved_threshold_is_a_new_calibration_and_no_other_line_changes(line):
    client, config = line
    answer = save(client, **form(client, threshold="0.5"))
    assert "reads it when it is started" in answer.text
    assert config.read_text() == CONFIG.replace("cam1-2-calibration", "cam1-3-calibration")
    now = used(config).calibration
    assert (now.threshold, now.set_by, now.name, now.reason) == (0.5, "erika", "finer", "dust")
    # Nobody has measured so low: one in twenty of the good pictures lay above 0.45.
    assert (now.false_alarm_rate, now.false_alarm_interval) == (pytest.approx(0.05), None)
    assert now.id != "c-1"
    assert (config.parent / "cam1-2-calibration.json").exists()
    assert "<th>Threshold</th><td>0.500</td>" in answer.text


def test_what_was_promised_holds_above_and_comes_back_with_the_threshold(line):
    client, config = line
    save(client, **form(client, threshold="0.5"))
    save(client, **form(client, threshold="0.8"))
    above = used(config).calibration
    assert (above.false_alarm_rate, above.false_alarm_interval) == (0.01, (0.0, 0.03))
    html = client.get("/threshold?station=cam1").text
    back = re.findall(r'href="(/threshold\?[^"]*)">Back to it', html)
    assert len(back) == 3
    shown = client.get(back[-1].replace("&amp;", "&")).text
    exact = re.search(r'name="exact" value="([^"]*)"', shown)[1]
    save(client, **form(client, threshold="0.619", exact=exact, name="c-1", reason="back"))
    again = used(config).calibration
    assert (again.threshold, again.false_alarm_rate, again.false_alarm_interval) == (0.6187342, 0.01, (0.002, 0.03))
    found = Changes(config.parent / NAME).newest(10, "threshold", "cam1")
    assert [one.after["threshold"] for one in found] == [0.6187342, 0.8, 0.5]
    assert found[-1].before == {"threshold": 0.6187342, "calibration": "c-1"}


def test_a_station_without_calibration_gets_the_line(line):
    client, config = line
    assert save(client, **form(client, "cam2", threshold="0.71")).status_code == 200
    assert "- {name: cam2, source: {folder: in2}, threshold: 0.71}\n" in config.read_text()
    assert used(config, "cam2").effective_threshold() == 0.71
    save(client, **form(client, "cam2", threshold="0.7"))
    assert used(config, "cam2").effective_threshold() == 0.7


def test_the_later_of_two_engineers_sees_what_the_earlier_one_saved_and_keeps_his_own(line):
    client, config = line
    mine = form(client, threshold="0.5", name="mine")
    save(client, **form(client, threshold="0.7", name="theirs"))
    answer = save(client, **mine)
    assert answer.status_code == 409
    assert "Somebody else has saved a threshold meanwhile" in answer.text
    assert re.search(r"<td>erika</td><td>0.700</td><td>theirs</td><td>dust</td>", answer.text)
    assert '<th>Threshold</th><td>0.700</td><td data-asked="threshold">0.500</td>' in answer.text
    assert 'name="name" required maxlength="64" value="mine"' in answer.text
    assert used(config).calibration.threshold == 0.7
    again = re.search(r'name="seen" value="([^"]*)"', answer.text)[1]
    assert save(client, **{**mine, "seen": again}).status_code == 200
    assert used(config).calibration.threshold == 0.5


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"threshold": "0.5", "name": " "}, 400, "Give a name"),
        ({"threshold": "0.5", "reason": "x" * 501}, 400, "a reason of at most 500"),
        ({"threshold": "0.619"}, 400, "in use already"),
        ({"threshold": "7"}, 400, "a number from 0 to 1"),
        ({"threshold": "nan"}, 400, "a number from 0 to 1"),
        ({"threshold": "0.5", "station": "cam9"}, 404, "no such station"),
        ({"threshold": "0.5", "token": "0" * 64}, 403, "too old"),
    ],
)
def test_what_makes_no_sense_is_not_saved(line, fields, code, said):
    client, config = line
    answer = save(client, **{**form(client), **fields})
    assert (answer.status_code, said in answer.text) == (code, True)
    assert config.read_text() == CONFIG
    assert not list(config.parent.glob("cam1-3*"))
    assert Changes(config.parent / NAME).newest(1) == []


def test_what_the_agent_would_refuse_is_not_saved_and_leaves_no_file(line):
    client, config = line
    text = CONFIG.replace("  calibration", "  debounce: {hysteresis: 0.3}\n  calibration")
    config.write_text(text)
    answer = save(client, **form(client, threshold="0.2"))
    assert answer.status_code == 400
    assert "no alarm would clear" in answer.text
    assert (config.read_text(), list(config.parent.glob("cam1-3*"))) == (text, [])
    assert Changes(config.parent / NAME).newest(1) == []


@pytest.mark.parametrize("full", [".config.yaml.tmp", ".cam1-3-calibration.json.tmp", "changes.jsonl"])
def test_where_a_file_cannot_be_written_nothing_is_half_done_and_what_was_typed_stays(line, full):
    client, config = line
    fields = form(client, threshold="0.5", reason="kept in the form")
    (config.parent / full).mkdir()  # as root may write everywhere
    answer = save(client, **fields)
    assert answer.status_code == 503
    assert "kept in the form</textarea>" in answer.text or full == "changes.jsonl"
    assert (config.read_text(), list(config.parent.glob("cam1-3*"))) == (CONFIG, [])


def test_only_an_engineer_saves(line):
    client, config = line
    fields = form(client, threshold="0.5")
    client.cookies.clear()
    sign_in(client, "oscar")
    html = client.get("/threshold").text
    assert "data-save" not in html
    assert "Earlier thresholds" not in html
    token = token_in(client.get("/review").text)
    assert save(client, **{**fields, "token": token}).status_code == 403
    assert config.read_text() == CONFIG


def test_a_calibration_is_written_beside_the_present_one_where_config_yaml_is_a_link(line):
    _, config = line
    kept = config.parent / "state" / "line.yaml"
    kept.parent.mkdir()
    config.rename(kept)
    config.symlink_to(kept)
    linked = ConfigFile(config)
    save_threshold(linked, linked.read(), "cam1", 0.5, Note("erika", "finer", "dust"))
    assert config.is_symlink()
    assert (config.parent / "cam1-3-calibration.json").exists()
    assert used(config).effective_threshold() == 0.5
