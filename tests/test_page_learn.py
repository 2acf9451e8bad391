"""Learning on the page: what the corrections would change is seen before it is used, and can be gone back from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from edge_agent import build
from edge_agent.config.load import load_config
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.load import Loader
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.rows import LabelValue
from edge_agent.learn.patches import seen_again
from edge_agent.line.calibration import read_calibration
from edge_agent.page.access.accounts import Role
from edge_agent.page.changes import NAME, Changes
from edge_agent.page.deciding import learner
from edge_agent.page.deciding.candidates import Candidate, Candidates
from edge_agent.page.serve import listen, server
from tests.drilled import part
from tests.pages import page, token_in
from tests.taught import Taught, bank, dusty, scratched, taught_station
from tests.test_page_browser import CHROMIUM, EXAMINE, WINDOWS, browser  # noqa: F401


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    with pytest.MonkeyPatch.context() as patch:
        one = Loader()
        patch.setattr(build, "loader", lambda config: one)
        yield one


@pytest.fixture(scope="module")
def of_three(loader: Loader) -> Checkpoint:
    return bank(loader)


@pytest.fixture
def taught(tmp_path: Path, loader: Loader, of_three: Checkpoint) -> Taught:
    """A station that calls a dusty part defective, as somebody says wrongly, and misses nothing."""
    pictures = {"good10": part(10), "dusty10": dusty(10), "dusty11": dusty(11), "scratch10": scratched(10)}
    made = taught_station(tmp_path, loader, of_three, pictures)
    say(made, dusty10=LabelValue.GOOD, scratch10=LabelValue.DEFECT)
    return made


def say(line: Taught, **said: LabelValue) -> None:
    with open_labels(line.url) as labels:
        labels.say_all([Statement(line.ids[name], value) for name, value in said.items()], "oscar")


@contextmanager
def page_of(line: Taught) -> Iterator[TestClient]:
    with page(line.config.parent / "data", local=Role.ENGINEER, stations=("cam1",), config=line.config) as app:
        yield TestClient(app, base_url="http://127.0.0.1")


def test_what_was_compared_is_used_as_it_was_and_gone_back_from(taught: Taught) -> None:
    candidates, folder = (
        Candidates(taught.config, taught.config.parent / "held"),
        taught.config.parent / "held" / "cam1",
    )
    before = {path.name for path in taught.config.parent.iterdir()}
    made = learner.make(taught.config, "cam1", folder)
    assert (made["changes"], made["learnt"], made["objections"]) == (True, 2, [])
    assert (made["good"], made["defects"]) == ([1, 1, 0], [1, 0, 0])
    assert made["last"][0] == 4
    assert {one["title"]: (one["before"], one["after"], one["said"]) for one in made["shown"]}["dusty10"] == (
        True,
        False,
        "good",
    )
    assert not any(one["is_against"] for one in made["shown"])
    assert {path.name for path in taught.config.parent.iterdir()} == {*before, "held"}
    # A threshold that was saved meanwhile is not lost to what was compared with another.
    path = taught.config.parent / "cam1-calibration.json"
    content, later = path.read_text(), read_calibration(path).model_copy(update={"threshold": 0.7})
    path.write_text(later.model_dump_json(by_alias=True))
    with open_labels(taught.url) as labels, pytest.raises(EdgeAgentError, match="looks or judges otherwise"):
        candidates.use(Candidate("cam1", "erika", made=made), labels)
    path.write_text(content)
    assert not list(taught.config.parent.glob("cam1-2*"))
    with open_labels(taught.url) as labels:
        assert candidates.use(Candidate("cam1", "erika", made=made), labels).name == "cam1-2.safetensors"
    now = load_config(taught.config).station("cam1")
    assert now.detector.checkpoint is not None
    assert now.detector.checkpoint.name == "cam1-2.safetensors"
    assert not learner.make(taught.config, "cam1", folder)["changes"]
    assert candidates.back("cam1", "cam1.safetensors").name == "cam1.safetensors"
    assert load_config(taught.config).station("cam1").detector.checkpoint == taught.config.parent / "cam1.safetensors"


def test_what_stands_against_it_is_shown_with_its_pictures_first(
    tmp_path: Path, loader: Loader, of_three: Checkpoint
) -> None:
    pictures = {"scratch10": scratched(10), "again10": seen_again(scratched(10), 30), "good10": part(10)}
    line = taught_station(tmp_path, loader, of_three, pictures)
    with open_labels(line.url) as labels:
        labels.say(Statement(line.ids["again10"], LabelValue.GOOD), "oscar")
        labels.say(Statement(line.ids["scratch10"], LabelValue.DEFECT, None, (30, 55, 40, 30)), "oscar")
    made = learner.make(line.config, "cam1", tmp_path / "held")
    assert "1 defect would no longer be found" in made["objections"][0]
    assert [(one["title"], one["is_against"]) for one in made["shown"]] == [("scratch10", True)]


def test_only_an_engineer_learns_and_a_station_without_a_bank_says_so(taught: Taught) -> None:
    text = taught.config.read_text()
    taught.config.write_text(f"{text}  - {{name: cam2, source: {{folder: in}}}}\n")
    with page_of(taught) as client:
        html = client.get("/learn").text
        assert "Labels that it has not learnt: 2." in html
        assert "no bank of good parts" in client.get("/learn?station=cam2").text
        assert client.get("/learn?station=cam9").status_code == 404
        fields = {"token": token_in(html), "station": "cam1"}
        for address, more in (("use", {"made": "f" * 64}), ("back", {"seen": "x", "bank": "../cam1.safetensors"})):
            assert client.post(f"/learn/{address}", data={**fields, **more}).status_code == 409
        assert client.post("/learn/make", data={**fields, "token": "0" * 64}).status_code == 403
    folder = taught.config.parent / "data"
    with page(folder, local=Role.OPERATOR, stations=("cam1",), config=taught.config) as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        assert client.get("/learn").status_code == 403
        assert '"/learn"' not in client.get("/review").text


def test_one_is_made_at_a_time_and_can_be_stopped(taught: Taught) -> None:
    with page_of(taught) as client:
        fields = {"token": token_in(client.get("/learn").text), "station": "cam1"}
        assert "this machine has it made" in client.post("/learn/make", data=fields).text
        assert client.post("/learn/make", data=fields).status_code == 409
        assert "See what the corrections would change" in client.post("/learn/leave", data=fields).text
    assert not list((taught.config.parent / "data").glob("learning/*/candidate*"))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt install chromium)")
def test_an_engineer_sees_what_changes_uses_it_and_goes_back(taught: Taught, browser) -> None:  # noqa: F811
    with ExitStack() as stack:
        folder = taught.config.parent / "data"
        app = stack.enter_context(page(folder, local=Role.ENGINEER, stations=("cam1",), config=taught.config))
        opened = stack.enter_context(listen("127.0.0.1", 0))
        ready = server(app)
        thread = threading.Thread(target=ready.run, kwargs={"sockets": [opened]})
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, ready, "should_exit", True)
        context = browser.new_context(base_url=f"http://127.0.0.1:{opened.getsockname()[1]}", has_touch=True)
        stack.callback(context.close)
        tab, faults = context.new_page(), []
        tab.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto("/learn")
        tab.get_by_role("button", name="See what the corrections would change").tap()
        tab.get_by_role("button", name="Use it").wait_for(timeout=120_000)
        assert "dusty10" in tab.locator(".grid").inner_text()
        for width, height in WINDOWS.values():
            tab.set_viewport_size({"width": width, "height": height})
            assert tab.evaluate(EXAMINE) == []
        tab.get_by_role("button", name="Use it").tap()
        tab.get_by_text("Saved. The agent does not run").wait_for(timeout=120_000)
        assert "cam1-2.safetensors" in taught.config.read_text()
        assert tab.evaluate(EXAMINE) == []
        tab.get_by_role("button", name="Back to it cam1.safetensors").tap()
        tab.get_by_text("Bank: cam1.safetensors").wait_for(timeout=120_000)
        assert "cam1.safetensors" in taught.config.read_text()
        assert faults == []
    found = Changes(folder / NAME).newest(10, "learning", "cam1")
    assert [one.after["checkpoint"] for one in found] == ["cam1.safetensors", found[1].after["checkpoint"]]
    assert not list(folder.glob("learning/*/*"))
