"""Masks and new stations in a real browser, on windows of a phone, a panel and a laptop: drawn by finger, mouse and keyboard."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from edge_agent.config.load import load_config
from edge_agent.core import Evaluation
from edge_agent.page.access.accounts import Role
from edge_agent.page.configuring.drafts import Drafts
from edge_agent.page.serve import listen, server
from tests.conftest import wait_until
from tests.drilled import folder
from tests.drilled import part as drilled
from tests.pages import journal_of, page, part
from tests.test_page_browser import CHROMIUM, EXAMINE, WINDOWS, browser  # noqa: F401

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a page beside an agent that does not run, and its config.yaml."""
    folder = tmp_path_factory.mktemp("configuring")
    journal_of(folder, [part(minute, Evaluation.OK, 0.2) for minute in range(3)])
    config = folder / "config.yaml"
    config.write_text("agent: {data_dir: .}\nstations:\n- name: cam1  # ours\n  source: {folder: in}\n")
    with ExitStack() as stack:
        app = stack.enter_context(page(folder, local=Role.ENGINEER, stations=("cam1",), config=config))
        opened = stack.enter_context(listen("127.0.0.1", 0))
        ready = server(app)
        thread = threading.Thread(target=ready.run, kwargs={"sockets": [opened]})
        thread.start()
        yield f"http://127.0.0.1:{opened.getsockname()[1]}", config
        ready.should_exit = True
        thread.join()


@pytest.fixture
def tab(browser, served, request):  # noqa: F811
    """A tab of a window, in which nothing may go wrong."""
    name = getattr(request, "param", "panel")
    width, height = WINDOWS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=name != "laptop", base_url=served[0]
    )
    opened, faults = context.new_page(), []
    opened.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.faults = faults
    yield opened
    context.close()
    assert faults == []


def corners(tab) -> list[list[tuple[float, float]]]:
    """The corners of the shapes that are left out, as the field has them."""
    lines = tab.locator("[data-text=ignore]").input_value().splitlines()
    return [[tuple(map(float, corner.split(","))) for corner in line.split()] for line in lines]


def box(tab) -> dict[str, float]:
    tab.locator("[data-canvas]").scroll_into_view_if_needed()
    return tab.locator("[data-canvas]").bounding_box()


@pytest.mark.parametrize("tab", WINDOWS, indirect=True)
def test_a_finger_or_mouse_draws_a_mask_that_can_be_seen_and_is_saved(tab, served, request):
    _, config = served
    tab.goto("/masks")
    for summary in tab.locator("summary").all():
        summary.click()
    assert tab.evaluate(EXAMINE) == []
    for button in tab.locator("[data-list] button").all():
        button.click()
    tab.get_by_role("button", name="Draw what to leave out").click()
    canvas = box(tab)
    hit = tab.mouse.click if "laptop" in request.node.name else tab.touchscreen.tap
    for x, y in ((0.2, 0.2), (0.7, 0.2), (0.7, 0.6)):
        hit(canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"])
    tab.get_by_role("button", name="Close the shape").click()
    (drawn,) = corners(tab)
    assert drawn == [pytest.approx(one, abs=0.01) for one in ((0.2, 0.2), (0.7, 0.2), (0.7, 0.6))]
    assert tab.evaluate(EXAMINE) == []
    with tab.expect_navigation():
        tab.get_by_role("button", name="Save").click()
    assert "reads it when it is started" in tab.get_by_role("alert").inner_text()
    assert load_config(config).station("cam1").ignore == (tuple(drawn),)
    assert "- name: cam1  # ours" in config.read_text()


def test_a_mask_is_drawn_with_the_keyboard_alone_and_a_corner_is_dragged(tab, served):
    tab.goto("/masks")
    for button in tab.locator("[data-list] button").all():
        button.click()
    assert corners(tab) == []
    tab.locator("[data-canvas] svg").focus()
    for keys in (
        ["Enter"],
        ["Shift+ArrowRight"] * 4 + ["Enter"],
        ["Shift+ArrowDown"] * 4 + ["ArrowDown", "Enter"],
        ["c"],
    ):
        for key in keys:
            tab.keyboard.press(key)
    assert corners(tab) == [[(0.5, 0.5), (0.7, 0.5), (0.7, 0.71)]]
    shaded = "document.querySelectorAll('[data-shaded] polygon').length"
    assert tab.evaluate(shaded) == 1 + tab.locator("ol.grid li").count() == 4
    canvas = box(tab)
    tab.mouse.move(canvas["x"] + 0.7 * canvas["width"], canvas["y"] + 0.5 * canvas["height"])
    tab.mouse.down()
    tab.mouse.move(canvas["x"] + 0.9 * canvas["width"], canvas["y"] + 0.1 * canvas["height"])
    tab.mouse.up()
    assert corners(tab)[0][1] == pytest.approx((0.9, 0.1), abs=0.01)


def test_what_is_written_by_hand_is_drawn_at_once(tab):
    tab.goto("/masks")
    tab.locator("[data-text=include]").fill("0,0 1,0 1,1\n0,0 0.5,0.5 0,1")
    assert tab.locator("[data-canvas] polygon.include").count() == 2
    assert (
        tab.locator("[data-yaml]").text_content().startswith("include: [[[0, 0], [1, 0], [1, 1]], [[0, 0], [0.5, 0.5]")
    )
    tab.locator("[data-text=include]").fill("0,0 1,0 x")
    assert tab.locator("[data-canvas] polygon.include").count() == 2  # as it was, until it can be read


@pytest.mark.parametrize("tab", WINDOWS, indirect=True)
def test_a_station_is_set_up_from_pictures_that_are_chosen_on_this_device(tab, served, request):
    _, config = served
    name, files = request.node.callspec.params["tab"], config.parent / "chosen"
    if not files.exists():
        folder(files, [drilled(seed) for seed in range(2)])
    tab.goto("/set-up")
    assert tab.evaluate(EXAMINE) == []
    tab.get_by_label("Name of the station").fill(name)
    tab.get_by_label("What the pictures show").fill("disc")
    tab.get_by_role("textbox", name="Folder").fill(str(config.parent))
    with tab.expect_navigation():
        tab.get_by_role("button", name="Go on").click()
    with tab.expect_navigation():
        tab.get_by_label("Or choose pictures").set_input_files(sorted(files.glob("part*.png")))
    tab.locator("ol.grid img").nth(1).wait_for()
    for summary in tab.locator("summary").all():
        summary.click()
    tab.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    wait_until(lambda: tab.evaluate("[...document.images].every((image) => image.complete)"), "all pictures")
    assert tab.evaluate(EXAMINE) == []
    (config.parent / "set-up" / name / "table.txt").write_text("as it is\n")
    tab.reload()
    assert tab.get_by_role("button", name="Add the station").is_visible()
    with tab.expect_navigation():
        tab.get_by_role("button", name="Remove 001.png").click()
    assert tab.locator("ol.grid li").count() == 1
    assert tab.get_by_role("button", name="Add the station").count() == 0


def test_a_file_that_is_no_picture_is_told_by_its_name(tab, served):
    folder_of_all = served[1].parent
    Drafts(folder_of_all / "set-up", folder_of_all).make("told", "disc", {"folder": str(folder_of_all)})
    tab.goto("/set-up?station=told")
    refused = {"name": "text.png", "mimeType": "image/png", "buffer": b"no picture"}
    with tab.expect_console_message(lambda said: "400" in said.text):
        tab.get_by_label("Or choose pictures").set_input_files(refused)
    tab.get_by_text("text.png: not a picture").wait_for()
    tab.faults.clear()
