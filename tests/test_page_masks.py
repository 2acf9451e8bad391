"""Masks that are drawn on the page become lines of config.yaml, whose other lines stay, and the agent is told."""

from __future__ import annotations

import re
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edge_agent.config.edit import quoted, with_item, with_key
from edge_agent.config.load import load_config
from edge_agent.journal.journal import Journal
from edge_agent.page.access.accounts import Role
from edge_agent.page.configuring.config_file import ConfigFile
from tests.conftest import PATIENCE_S
from tests.pages import accounts_of, journal_of, page, shift, sign_in, token_in

CONFIG = """# our line
agent: {data_dir: .}
stations:
- name: cam1   # the press
  source:
    folder: in
    # not recursive
  ignore: [[[0, 0], [1, 0], [1, 1]]]  # the clamp
- {name: cam2, source: {folder: in2}}
"""
SQUARE = "[[[0.1, 0.2], [0.5, 0.2], [0.5, 0.6], [0.1, 0.6]]]"
CORNERS = "0.1,0.2 0.5,0.2 0.5,0.6 0.1,0.6"
CHANGED = "[[[0, 0], [1, 0], [0.5, 0.5]]]"
TRIANGLE = [[[0, 0], [1, 0], [1, 1]]]


@pytest.fixture
def line(tmp_path):
    """A page whose browsers of this machine are engineers, its config.yaml, and the inspections."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    held = journal_of(tmp_path, [shift()[place] for place in (0, 3, 5)])
    with page(tmp_path, local=Role.ENGINEER, stations=("cam1", "cam2"), config=config) as app:
        yield TestClient(app, base_url="http://127.0.0.1"), config, held


def form(client: TestClient, station: str = "cam1") -> dict[str, str]:
    html = client.get(f"/masks?station={station}").text
    found = dict(re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)</textarea>', html))
    seen = re.search(r'name="seen" value="(\w*)"', html)[1]
    return {"token": token_in(html), "station": station, "seen": seen, **found}


def save(client: TestClient, **fields: str):
    return client.post("/masks", data=fields, follow_redirects=True)


def test_what_is_drawn_becomes_a_line_of_the_station_and_every_other_line_stays(line):
    client, config, _ = line
    answer = save(client, **{**form(client), "include": CORNERS, "ignore": "0,0 1,0 0.5,0.5"})
    assert "reads it when it is started" in answer.text
    assert config.read_text() == CONFIG.replace(
        "  ignore: [[[0, 0], [1, 0], [1, 1]]]  # the clamp\n",
        f"  ignore: [[[0, 0], [1, 0], [0.5, 0.5]]]  # the clamp\n  include: {SQUARE}\n",
    )
    assert CHANGED in client.get("/changes?what=masks").text
    assert save(client, **{**form(client, "cam2"), "ignore": CORNERS}).status_code == 200
    assert f"- {{name: cam2, source: {{folder: in2}}, ignore: {SQUARE}}}\n" in config.read_text()
    assert load_config(config).station("cam2").ignore[0][1] == (0.5, 0.2)
    assert save(client, **{**form(client), "include": "", "ignore": ""}).status_code == 200
    assert "  ignore: []  # the clamp\n  include: []\n" in config.read_text()


def test_the_agent_that_runs_is_told(line):
    client, config, _ = line
    told = threading.Event()
    before = signal.signal(signal.SIGHUP, lambda *_: told.set())
    try:
        with closing(Journal.open(f"sqlite:///{config.parent}/journal.db")):
            assert "The agent reads it again now" in save(client, **{**form(client), "include": CORNERS}).text
            assert told.wait(PATIENCE_S)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_the_agent_would_refuse_is_not_saved_and_stays_in_the_form(line):
    client, config, _ = line
    crossed = "0,0 1,1 1,0 0,1"
    for text, said in (
        (crossed, "crosses itself"),
        ("0,0 1,0", "has 2 points"),
        ("0,0 1,0 1,2", "each two numbers from 0 to 1"),
        ("0,0 1,nan 1,1", "each two numbers from 0 to 1"),
        ("<script>", "each two numbers from 0 to 1"),
        ("0,0 1,0 1,1 0,1", "leave nothing of the picture"),
    ):
        answer = save(client, **{**form(client), "ignore": text})
        assert answer.status_code == 400, text
        assert said in answer.text
        assert "<script>&" not in answer.text
        assert config.read_text() == CONFIG
    assert crossed in save(client, **{**form(client), "ignore": crossed}).text
    assert sorted(one.name for one in config.parent.iterdir() if "config" in one.name) == ["config.yaml"]


def test_a_link_to_the_file_stays_one_and_relative_paths_start_where_it_is(line):
    client, config, _ = line
    kept = config.parent / "state" / "line.yaml"
    kept.parent.mkdir()
    config.rename(kept)
    config.symlink_to(kept)
    linked = ConfigFile(config)
    linked.replace(linked.read().sha256, lambda held: held.text.replace("# our line", "# by a link"))
    assert config.is_symlink()
    assert kept.read_text().startswith("# by a link")
    assert linked.read().config.agent.data_dir == config.parent
    assert client.get("/masks").status_code == 200


def test_who_saves_upon_the_change_of_somebody_else_is_told_and_keeps_what_was_drawn(line):
    client, config, _ = line
    mine = {**form(client), "include": CORNERS}
    theirs = CONFIG.replace("# our line", "# their line")
    config.write_text(theirs)
    answer = save(client, **mine)
    assert answer.status_code == 409
    assert "somebody else has changed it meanwhile" in answer.text
    assert CORNERS in answer.text
    assert config.read_text() == theirs
    again = re.search(r'name="seen" value="(\w*)"', answer.text)[1]
    assert save(client, **{**mine, "seen": again}).status_code == 200
    assert config.read_text().startswith("# their line")


def test_a_config_that_cannot_be_written_is_left_and_the_lines_for_it_are_shown(line):
    client, config, _ = line
    fields = {**form(client), "include": CORNERS}
    (config.parent / ".config.yaml.tmp").mkdir()  # as root may write everywhere
    answer = save(client, **fields)
    assert answer.status_code == 503
    assert "may not write there" in answer.text
    assert f"include: {SQUARE}" in answer.text
    assert config.read_text() == CONFIG


def test_only_an_engineer_draws_masks_and_only_by_a_form_of_the_page(line, tmp_path):
    client, config, held = line
    fields = {**form(client), "include": CORNERS}
    assert client.post("/masks", data={**fields, "token": "0" * 64}).status_code == 403
    with page(tmp_path, accounts=accounts_of(tmp_path), stations=("cam1",), config=config) as app:
        other = TestClient(app, base_url="http://127.0.0.1")
        sign_in(other, "oscar")
        assert other.get("/masks").status_code == 403
        html = other.get(f"/inspection/{held[0].id}").text
        assert other.post("/masks", data={**fields, "token": token_in(html)}).status_code == 403
        assert '"/masks"' not in html
    assert config.read_text() == CONFIG


def test_the_view_shows_the_newest_picture_and_the_last_ones_with_what_is_left_out(line):
    client, _, held = line
    assert 'href="/masks"' in client.get("/review").text
    html = client.get("/masks").text
    assert f'src="/picture/{held[2].id}/original.jpg"' in html
    assert html.count("/thumbnail.jpg") == 2
    assert html.count('<polygon points="0.0,0.0 1.0,0.0 1.0,1.0 "') == 3
    assert client.get("/masks?station=nobody").status_code == 404


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("stations: [{name: a}]\n", f"stations: [{{name: a, ignore: {TRIANGLE}}}]\n"),
        ("stations:\r\n- name: a\r\n", f"stations:\r\n- name: a\r\n  ignore: {TRIANGLE}\r\n"),
        ("stations:\n- name: a\n  ignore:\n", f"stations:\n- name: a\n  ignore: {TRIANGLE}\n"),
        (
            "stations:\n- ignore:\n  - - [0, 0]\n    - [1, 0]\n    - [0, 1]  # last\n  # more\n  name: a",
            f"stations:\n- ignore:\n    {TRIANGLE}  # last\n  # more\n  name: a",
        ),
        (
            "stations:\n- name: a\n  debounce:\n    of: 1  # one\n    #: hysteresis: 0\n\nlimits: {}\n",
            f"stations:\n- name: a\n  debounce:\n    of: 1  # one\n    #: hysteresis: 0\n  ignore: {TRIANGLE}\n\nlimits: {{}}\n",
        ),
        ("stations:\n- &a\n  name: a\n  ignore: []\n- <<: *a\n  name: b\n", None),
        ("stations:\n- &a {name: a}\n- *a\n", None),
    ],
)
def test_a_key_is_put_where_it_belongs_or_not_at_all(text, edited):
    assert with_key(text, ("stations", 0), "ignore", str(TRIANGLE)) == edited


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("stations: [{name: a}]", "stations: [{name: a}, {name: 'it''s', source: {folder: x}}]"),
        (
            "stations:\n  - name: a\n    # last\n# end\n",
            "stations:\n  - name: a\n    # last\n  - name: 'it''s'\n    source: {folder: x}\n# end\n",
        ),
        ("all: &s [{name: a}]\nstations: *s\n", None),
    ],
)
def test_a_station_is_added_behind_the_last_one_or_not_at_all(text, edited):
    assert with_item(text, ("stations",), {"name": quoted("it's"), "source": "{folder: x}"}) == edited


def test_an_own_config_of_the_package_takes_both(tmp_path):
    text = (Path(__file__).parents[1] / "config.yaml").read_text()
    changed = with_key(text, ("stations", 0), "ignore", str(TRIANGLE))
    changed = with_item(changed, ("stations",), {"name": "new", "source": "{folder: x}"})
    (tmp_path / "config.yaml").write_text(changed)
    assert load_config(tmp_path / "config.yaml").station("cam1").ignore == (((0, 0), (1, 0), (1, 1)),)
    kept = [one for one in changed.splitlines() if one not in ("  - name: new", "    source: {folder: x}")]
    assert [one for one in kept if "ignore: [[[0, 0], [1, 0]" not in one] == text.splitlines()
