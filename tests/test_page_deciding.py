"""What an engineer decides on the page: a threshold, and what a station learns, both seen before they are used."""

from __future__ import annotations

import re
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
from tests.conftest import PATIENCE_S
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
    return station_with_labels(tmp_path, loader, of_three)


def station_with_labels(folder: Path, loader: Loader, of_three: Checkpoint) -> Taught:
    """Make a station that calls a dusty part defective, wrongly, as somebody has said, and finds a defect."""
    pictures = {"good10": part(10), "dusty10": dusty(10), "dusty11": dusty(11), "scratch10": scratched(10)}
    made = taught_station(folder, loader, of_three, pictures)
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


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt install chromium)")


class Served:
    """A page of engineers that can be stopped and started again at the same address."""

    def __init__(self, line: Taught) -> None:
        self.line, self.port, self.stop = line, 0, ExitStack()
        self.start()

    def start(self) -> None:
        data, config = self.line.config.parent / "data", self.line.config
        app = self.stop.enter_context(page(data, local=Role.ENGINEER, stations=("cam1",), config=config))
        opened = self.stop.enter_context(listen("127.0.0.1", self.port))
        self.port = opened.getsockname()[1]
        ready = server(app)
        thread = threading.Thread(target=ready.run, kwargs={"sockets": [opened]})
        thread.start()
        self.stop.callback(thread.join)
        self.stop.callback(setattr, ready, "should_exit", True)

    @property
    def threshold(self) -> float:
        """What config.yaml says by now."""
        return load_config(self.line.config).station("cam1").effective_threshold()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, loader: Loader, of_three: Checkpoint) -> Iterator[Served]:
    line = station_with_labels(tmp_path_factory.mktemp("served"), loader, of_three)
    line.config.write_text(f"{line.config.read_text()}  - {{name: cam2, source: {{folder: in}}}}\n")
    made = Served(line)
    yield made
    made.stop.close()


def test_only_an_engineer_learns_and_a_station_without_a_bank_says_so(served: Served) -> None:
    taught = served.line
    with page_of(taught) as client:
        html = client.get("/learn").text
        assert "Labels that it has not learnt: 2." in html
        assert "no bank of good parts" in client.get("/learn?station=cam2").text
        assert client.get("/learn?station=cam9").status_code == 404
        fields = {"token": token_in(html), "station": "cam1"}
        for address, more in (("use", {"made": "f" * 64}), ("back", {"seen": "x", "bank": "../cam1.safetensors"})):
            assert client.post(f"/learn/{address}", data={**fields, **more}).status_code == 409
        assert client.post("/learn/make", data={**fields, "token": "0" * 64}).status_code == 403
    with page(taught.config.parent / "data", local=Role.OPERATOR, stations=("cam1",), config=taught.config) as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        assert client.get("/learn").status_code == 403
        assert '"/learn"' not in client.get("/review").text


def test_one_is_made_at_a_time_and_can_be_stopped(served: Served) -> None:
    taught = served.line
    with page_of(taught) as client:
        fields = {"token": token_in(client.get("/learn").text), "station": "cam1"}
        assert "this machine has it made" in client.post("/learn/make", data=fields).text
        assert client.post("/learn/make", data=fields).status_code == 409
        assert "See what the corrections would change" in client.post("/learn/leave", data=fields).text
    assert not list((taught.config.parent / "data").glob("learning/*/candidate*"))


@pytest.fixture
def tab(browser, served: Served, request: pytest.FixtureRequest):  # noqa: F811
    """A tab of a window, in which nothing may go wrong but what a test brings about."""
    name = getattr(request, "param", "panel")
    width, height = WINDOWS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        has_touch=name != "laptop",
        base_url=f"http://127.0.0.1:{served.port}",
    )
    opened, faults = context.new_page(), []
    opened.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    context.close()
    assert [one for one in faults if "Failed to load resource" not in one] == []  # a refusal, or no answer


def asked(tab, what: str = "threshold") -> str:
    return tab.locator(f"[data-asked={what}]").inner_text()


def drag(tab, start: float, end: float) -> None:
    """Drag over the histogram between two thresholds, by finger where the window has touch, else by mouse."""
    box = tab.locator("[data-histogram]").bounding_box()
    xs = [box["x"] + box["width"] * (start + (end - start) * step / 4) for step in range(5)]
    y = box["y"] + box["height"] / 2
    if not tab.evaluate("navigator.maxTouchPoints > 0"):
        tab.mouse.move(xs[0], y)
        tab.mouse.down()
        for x in xs[1:]:
            tab.mouse.move(x, y)
        tab.mouse.up()
        return
    fingers = tab.context.new_cdp_session(tab)
    for kind, x in [("touchStart", xs[0]), *(("touchMove", x) for x in xs[1:])]:
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def fill(tab, threshold: str, name: str) -> None:
    tab.get_by_label("New threshold").fill(threshold)
    tab.get_by_label("Name").fill(name)
    tab.get_by_label("Reason").fill(f"because of {name}")


def save(tab) -> None:
    tab.get_by_role("button", name="Save").click()


@needs_chromium
@pytest.mark.parametrize("tab", WINDOWS, indirect=True)
def test_a_threshold_is_dragged_by_finger_mouse_and_keyboard_on_every_window(tab) -> None:
    tab.goto("/threshold")
    every = asked(tab, "last")
    drag(tab, 0.3, 0.8)
    assert float(asked(tab)) == pytest.approx(0.8, abs=0.01)
    assert tab.get_by_label("New threshold").input_value() == asked(tab)
    drag(tab, 0.5, 0.0)
    assert (asked(tab), asked(tab, "defects")) == ("0.000", "1")
    assert int(asked(tab, "last")) == 4 > int(every)
    tab.locator("[data-drag]").focus()
    tab.keyboard.press("ArrowRight")
    assert asked(tab) == "0.001"
    tab.get_by_label("New threshold").fill("1")
    assert (asked(tab), asked(tab, "last")) == ("1.000", "0")
    assert tab.evaluate(EXAMINE) == []
    tab.reload()
    assert asked(tab) == "1.000"  # what was dragged outlasts that the view is loaded again


@needs_chromium
def test_what_was_typed_outlasts_a_restart_of_the_page_and_the_save_of_somebody_else(tab, served: Served) -> None:
    tab.goto("/threshold")
    fill(tab, "0.7", "mine")
    served.stop.close()
    save(tab)
    tab.get_by_text("The page did not answer").wait_for()
    served.start()
    save(tab)
    tab.get_by_text("The page was started again meanwhile").wait_for()
    other = tab.context.new_page()
    other.goto("/threshold")
    fill(other, "0.6", "theirs")
    save(other)
    other.get_by_text("Saved. The agent does not run").wait_for()
    assert other.evaluate(EXAMINE) == []
    save(tab)
    tab.get_by_text("Somebody else has saved a threshold meanwhile").wait_for()
    assert tab.locator(".earlier").get_by_text("because of theirs").is_visible()
    assert tab.get_by_label("Name").input_value() == "mine"
    assert asked(tab) == "0.700"
    assert served.threshold == 0.6
    save(tab)
    tab.get_by_text("Saved. The agent does not run").wait_for()
    assert served.threshold == 0.7
    tab.get_by_role("link", name="Back to it 0.500").click()
    tab.wait_for_url("**threshold=0.5*")
    assert asked(tab) == "0.500"
    assert served.threshold == 0.7  # until it is saved
    fill(tab, "0.5", "as it was")
    save(tab)
    tab.get_by_text("Saved. The agent does not run").wait_for()
    assert served.threshold == 0.5


@needs_chromium
def test_an_engineer_sees_what_changes_uses_it_and_goes_back(tab, served: Served) -> None:
    tab.goto("/learn")
    tab.get_by_role("button", name="See what the corrections would change").tap()
    tab.get_by_role("button", name="Use it").wait_for(timeout=1000 * PATIENCE_S)
    assert "dusty10" in tab.locator(".grid").inner_text()
    for width, height in WINDOWS.values():
        tab.set_viewport_size({"width": width, "height": height})
        assert tab.evaluate(EXAMINE) == []
    tab.get_by_role("button", name="Use it").tap()
    tab.get_by_text("Saved. The agent does not run").wait_for()
    used = re.search(r"checkpoint: (cam1-\d\.safetensors)", served.line.config.read_text())[1]  # type: ignore[index]
    assert tab.evaluate(EXAMINE) == []
    tab.get_by_role("button", name="Back to it cam1.safetensors").tap()
    tab.get_by_text("Bank: cam1.safetensors").wait_for()
    assert "checkpoint: cam1.safetensors" in served.line.config.read_text()
    data = served.line.config.parent / "data"
    first, second = Changes(data / NAME).newest(10, "learning", "cam1")
    assert (first.before["checkpoint"], first.after["checkpoint"]) == (used, "cam1.safetensors")
    assert second.before["checkpoint"] == "cam1.safetensors"
    assert not list(data.glob("learning/*/*"))
    tab.goto("/changes")
    assert tab.evaluate(EXAMINE) == []
