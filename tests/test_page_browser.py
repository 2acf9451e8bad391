"""The page in a real browser, on windows of a phone, a panel and a laptop: what a hand on glass or a keyboard does with it."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge_agent.core import AlarmEvent, Evaluation
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import open_labels
from tests.conftest import PATIENCE_S, slowness, wait_until
from tests.line import inspected
from tests.made import gradient
from tests.pages import journal_of, part, shift

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt install chromium)")

WINDOWS = {"phone": (390, 844), "panel": (1024, 600), "laptop": (1440, 900)}

# What anybody has to be able to see, hit and hear read out. Returns sentences about what is not so.
EXAMINE = """() => {
  const found = [];
  const seen = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.right > 0 && getComputedStyle(element).visibility === "visible" && element.checkVisibility();
  };
  const told = (element) => `${element.tagName.toLowerCase()} ${element.name ?? ""} "${element.textContent.trim().slice(0, 30)}"`;
  const colour = (text) => { const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a: a ?? 1 }; };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, a } = colour(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
    }
    return [255, 255, 255];
  };
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window: ${document.documentElement.scrollWidth}`);
  for (const element of document.querySelectorAll("a, button, select, textarea, summary, input:not([type=hidden])")) {
    if (!seen(element)) continue;
    const { width, height } = element.getBoundingClientRect();
    if (width < 44 || height < 44) found.push(`too small to hit: ${told(element)} ${width} x ${height}`);
    const named = element.ariaLabel || (element.labels ? element.labels.length || element.matches("button") : true);
    if (!named) found.push(`no label: ${told(element)}`);
    if (element.matches("a, button") && !element.textContent.trim() && !element.ariaLabel) found.push(`no name: ${told(element)}`);
    if (element.tabIndex > 0) found.push(`out of order: ${told(element)}`);
  }
  for (const image of document.images) if (!image.hasAttribute("alt")) found.push(`no alt: ${image.src}`);
  for (const image of document.images) if (image.complete && !image.naturalWidth) found.push(`broken: ${image.src}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("script, noscript") || !seen(element)) continue;
    const style = getComputedStyle(element), one = light(colour(style.color).rgb), other = light(ground(element));
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(1)}: ${told(element)}`);
  }
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (!document.documentElement.lang) found.push("no language");
  return found;
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a page beside an agent, its folder, and the inspections."""
    folder = tmp_path_factory.mktemp("browser")
    fresh = inspected(AlarmEvent.RAISED, taken_at=datetime.now(timezone.utc), pixels=gradient(48, 64), part_id="SN-now")
    held = journal_of(folder, [*shift(), part(70, Evaluation.NOT_OK, 0.75, part_id="SN-draw"), fresh])
    config = folder / "config.yaml"
    config.write_text(
        f"agent: {{data_dir: {folder}}}\npage: {{local: operator, zone: UTC}}\n"
        "stations:\n- name: cam1\n  source: {folder: in}\n- name: cam9\n  source: {folder: in9}\n"
    )
    command = [sys.executable, "-m", "edge_agent.cli", "page", "--config", str(config), "--port", "0"]
    environment = {
        "CACHE_DIRECTORY": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PATH": "/usr/bin:/bin",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        address = re.match(r"(http://127\.0\.0\.1:\d+)/ ", process.stdout.readline())[1]
        yield address, folder, held
        process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, served, request):
    """A tab of a window, in which nothing may go wrong."""
    name = getattr(request, "param", "panel")
    width, height = WINDOWS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        has_touch=name != "laptop",
        base_url=served[0],
        service_workers="block",
    )
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(served[0]) else faults.append(f"asks {asked.url}"))
    yield page
    context.close()
    assert [fault for fault in faults if "net::ERR_" not in fault] == []  # as when a test cuts the network


@pytest.mark.parametrize("tab", WINDOWS, indirect=True)
def test_every_view_can_be_seen_hit_and_read_out_on_every_window(tab, served):
    _, _, held = served
    for address in ("/line", "/review?show=all", f"/inspection/{held[1].id}", "/sign-in", "/numbers", "/glossary"):
        tab.goto(address)
        for summary in tab.locator("summary").all():
            summary.click()
        tab.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        wait_until(lambda: tab.evaluate("[...document.images].every((image) => image.complete)"), "all pictures")
        assert tab.evaluate(EXAMINE) == [], address


def said_of(folder, inspection):
    with open_labels(f"sqlite:///{folder}/journal.db") as labels:
        return [(label.value.value, label.kind, label.box, label.who) for label in labels.history(inspection.id)]


@pytest.mark.parametrize("tab", ["phone"], indirect=True)
def test_an_operator_taps_the_red_part_sees_where_and_says_that_it_is_good(tab, served):
    _, folder, held = served
    tab.goto("/line")
    tab.locator(".tile.alarm .newest").tap()
    tab.locator("[data-map]").wait_for()
    tab.get_by_role("button", name="Good part").tap()
    tab.locator("p.said").wait_for()
    assert "Good part" in tab.locator("p.said").inner_text()
    assert said_of(folder, held[-1]) == [("good", None, None, "this machine")]
    tab.get_by_role("button", name="Undo").tap()
    tab.locator("p.said").wait_for(state="detached")


@pytest.mark.parametrize("tab", ["phone"], indirect=True)
def test_no_button_moves_away_under_a_finger_while_the_pictures_arrive(tab, served):
    _, _, held = served
    waiting = []
    tab.route("**/picture/**", lambda picture: waiting.append(picture))
    tab.goto(f"/inspection/{held[1].id}", wait_until="domcontentloaded")
    wait_until(lambda: tab.evaluate("document.images.length") == len(waiting) == 2, "pictures are asked for")
    before = tab.get_by_role("button", name="Good part").bounding_box()
    for picture in waiting:
        picture.continue_()
    there = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    wait_until(lambda: tab.evaluate(there), "the pictures")
    assert tab.get_by_role("button", name="Good part").bounding_box() == before


def test_a_finger_draws_a_box_around_the_defect(tab, served):
    _, folder, held = served
    tab.goto(f"/inspection/{held[-2].id}")
    tab.get_by_text("Kind, place, note").click()
    tab.get_by_label("Kind of defect").fill("dent")
    tab.get_by_role("button", name="Draw a box").click()
    picture = tab.locator("[data-frames]").last.bounding_box()
    scale = min(picture["width"] / 64, picture["height"] / 48)
    left = picture["x"] + (picture["width"] - 64 * scale) / 2
    top = picture["y"] + (picture["height"] - 48 * scale) / 2
    tab.mouse.move(left + 10.5 * scale, top + 8.5 * scale)
    tab.mouse.down()
    tab.mouse.move(left + 29.5 * scale, top + 19.5 * scale, steps=4)
    tab.mouse.up()
    tab.get_by_role("button", name="Defect", exact=True).click()
    tab.locator("p.said").wait_for()
    assert said_of(folder, held[-2]) == [("defect", "dent", (10, 8, 20, 12), "this machine")]
    assert tab.locator("rect.said").get_attribute("width") == "20"


@pytest.mark.parametrize("tab", ["laptop"], indirect=True)
def test_an_engineer_needs_no_mouse(tab, served):
    _, folder, held = served
    tab.goto("/review?station=cam1&since=2026-11-20T10:00&until=2026-11-20T11:00")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert "SN-bad-1" in tab.evaluate("document.activeElement.textContent")
    tab.keyboard.press("b")
    tab.locator(".line.said.defect").wait_for()
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/inspection/**")
    assert said_of(folder, held[1]) == [("defect", None, None, "this machine")]
    tab.keyboard.press("u")
    tab.locator("p.said").wait_for(state="detached")
    assert tab.evaluate("getComputedStyle(document.querySelector('[data-map]')).opacity") == "1"
    tab.keyboard.press("Space")
    assert tab.evaluate("getComputedStyle(document.querySelector('[data-map]')).opacity") == "0"
    tab.get_by_role("button", name="Side by side").click()
    assert tab.evaluate("getComputedStyle(document.querySelector('[data-map]')).opacity") == "1"
    tab.evaluate("document.activeElement.blur()")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(f"**/inspection/{held[2].id}*")
    tab.keyboard.press("Escape")
    tab.wait_for_url("**/review?*")


def test_the_keyboard_reaches_everything_in_the_order_of_reading_and_shows_where_it_is(tab, served):
    _, _, held = served
    tab.goto(f"/inspection/{held[0].id}")
    wanted = tab.evaluate(
        "[...document.querySelectorAll('a, button, input:not([type=hidden]), summary, textarea')]"
        ".filter((one) => one.checkVisibility()).length"
    )
    seen = []
    for _ in range(wanted):
        tab.keyboard.press("Tab")
        seen.append(
            tab.evaluate(
                "(() => { const at = document.activeElement, all = [...document.querySelectorAll('*')];"
                "return [all.indexOf(at), getComputedStyle(at).outlineStyle]; })()"
            )
        )
    assert [place for place, _ in seen] == sorted({place for place, _ in seen})
    assert {outline for _, outline in seen} == {"solid"}


def test_a_tile_shows_the_newest_part_within_seconds_and_goes_gray_without_news(tab, served):
    _, folder, _ = served
    tab.clock.install()
    tab.goto("/line")
    with closing(Journal.open(f"sqlite:///{folder}/journal.db")) as journal:
        one = inspected(
            AlarmEvent.CLEARED, taken_at=datetime.now(timezone.utc), pixels=gradient(48, 64), part_id="SN-newer"
        )
        store = EvidenceStore(folder / "evidence", originals="all", overlays="all")
        assert journal.record(one, store.save(one), [])
    tab.locator(".tile.good").get_by_text("SN-newer").wait_for()
    assert not tab.locator("[data-old]").is_visible()
    tab.route("**/line/events", lambda route: route.abort())
    tab.evaluate("window.stop()")
    tab.context.set_offline(True)
    tab.clock.fast_forward(7000)
    tab.locator("[data-old]").wait_for()
    assert tab.locator(".tiles.old").count() == 1
    assert "grayscale" in tab.evaluate("getComputedStyle(document.querySelector('.tile')).filter")


def test_three_hundred_connections_that_say_nothing_hold_nobody_up(served):
    address, _, held = served
    host, port = address.removeprefix("http://").split(":")
    with ExitStack() as slow:
        for number in range(300):
            one = slow.enter_context(socket.create_connection((host, int(port))))
            one.sendall(b"GET /review HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " if number % 2 else b"P")
        begun = time.monotonic()
        with urllib.request.urlopen(f"{address}/inspection/{held[0].id}", timeout=PATIENCE_S) as answer:
            assert answer.status == 200
        assert time.monotonic() - begun < 5 * slowness()


def test_a_dragged_threshold_says_at_once_what_it_would_have_done(tab):
    tab.goto("/threshold?station=cam1")
    before = tab.locator("[data-asked=last]").inner_text()
    tab.locator("[data-drag]").focus()
    tab.keyboard.press("Home")
    assert tab.locator("[data-asked=threshold]").inner_text() == "0.000"
    assert int(tab.locator("[data-asked=last]").inner_text()) > int(before)
    tab.get_by_label("Threshold").first.fill("1")
    assert tab.locator("[data-asked=last]").inner_text() == "0"
    assert tab.evaluate(EXAMINE) == []
