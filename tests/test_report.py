"""The report: one page that needs nothing else, says every figure in words, and shows the pictures that matter."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.cli import main
from trainer.evaluate.metrics import FIGURES, precision_recall_curve, roc_curve
from trainer.evaluate.published import PAPERS
from trainer.evaluate.record import CategoryRecord, DetectorRecord, FigureRecord
from trainer.report import charts
from trainer.report.cautions import Cautions, find_beaten
from trainer.report.rendering import render

VOID = {"meta", "img", "br", "path", "rect", "circle", "polyline"}
OPTIONAL = {"th", "td", "tr", "thead", "tbody", "dt", "dd", "li", "p"}  # of which HTML lets the end be left out


class Page(HTMLParser):
    """What a browser would see: tags and attributes, texts, and whether what must be closed is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID | OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID | OPTIONAL:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += f"{data}\n"


def plates(
    folder: Path,
    category: str,
    *,
    masks: bool = True,
    good: int = 4,
    bad: int = 4,
    defect: str = "dent",
    stem: str = "",
) -> None:
    """Gray plates, good ones and ones with a bright square of growing strength."""
    draw = np.random.default_rng(len(category))
    for kind, count in (("good", good), (defect, bad)):
        (folder / category / "test" / kind).mkdir(parents=True)
        for number in range(count):
            plate, mask = draw.integers(90, 110, (64, 80, 3), np.uint8), np.zeros((64, 80), np.uint8)
            if kind == defect:
                plate[10:20, 30:40], mask[10:20, 30:40] = 110 + 30 * number, 255
                if masks:
                    (folder / category / "ground_truth" / kind).mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(folder / category / "ground_truth" / kind / f"{stem}{number}_mask.png"), mask)
            cv2.imwrite(str(folder / category / "test" / kind / f"{stem}{number}.png"), plate)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """Three categories: with masks, without, and good pictures alone; one name that HTML must not take for its own."""
    folder = tmp_path_factory.mktemp("set")
    plates(folder, "plate")
    plates(folder, "a<b>&c", masks=False)
    plates(folder, "good only", bad=0)
    (folder / "plate/test/good/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = folder / "report.html"
    assert main(["evaluate", "--data", str(folder), "--baseline", "--report", str(out)]) == 0
    return out.read_text()


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(report):
    page = Page(report)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert "@import" not in report
    assert "url(" not in report
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources
    for source in sources:
        assert source is not None
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) is not None


def test_what_is_shown_is_also_said(report):
    page = Page(report)
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"] or "") > 20


def test_names_from_the_data_are_text_and_not_markup(report):
    page = Page(report)
    assert "a<b>&c" in page.words
    assert "b" not in {tag for tag, _ in page.tags if tag == "b>&c"}


def test_no_category_kind_file_name_or_class_name_becomes_markup(tmp_path):
    hostile = '"><script>alert(1)<!--'
    folder = tmp_path / "<i>set"
    plates(folder, hostile, defect=f"{hostile} {{{{7*7}}}}", stem="' onerror='x <img src=x>")
    (folder / hostile / "test/good" / "<b>broken.png").write_bytes(b"no picture")
    command = ["evaluate", "--data", str(folder), "--baseline", "--class-name", f"{hostile}</style>"]
    assert main([*command, "--report", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text()
    page = Page(html)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "i"}
    assert {attributes["src"][:23] for tag, attributes in page.tags if tag == "img"} == {"data:image/jpeg;base64,"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert f"{hostile} {{{{7*7}}}}/' onerror='x <img src=x>3.png" in page.words
    assert "<b>broken.png" in page.words
    assert f"“{hostile}</style>”" in page.words


def test_it_warns_of_what_the_figures_do_not_tell(report):
    words = Page(report).words
    assert "broken.png" in words
    assert "No outlines of defects in a<b>&c" in words
    assert "Fewer than 30 good or defective pictures in a<b>&c, plate" in words
    assert "Only good or only defective pictures in good only" in words


def test_it_says_where_a_rule_without_learning_does_better():
    def measured(detector: str, value: float | None) -> DetectorRecord:
        figures = {name: FigureRecord(value=value, low=value, high=value) for name in FIGURES}
        plate = CategoryRecord.model_construct(figures=figures)
        return DetectorRecord.model_construct(detector=detector, categories={"plate <1>": plate})

    def said(ours: float | None, base: float | None) -> str:
        beaten = find_beaten(measured("ours", ours), measured("local contrast", base))
        return render("cautions.html", cautions=Cautions("local contrast", beaten))

    worse = said(76.24, 96.9)
    assert '<div class="note">Local contrast' in worse
    assert "plate &lt;1&gt; (96.9 against 76.2)" in worse
    assert not said(96.9, 76.24)
    assert not said(None, None)


def test_the_published_rows_are_there_and_named_as_of_other_pictures(report):
    words = Page(report).words
    assert "Other pictures, other models" in words
    for paper in PAPERS:
        assert paper.title in words
        for dataset in paper.rows:
            assert f"{paper.method} on {dataset}" in words


def test_found_missed_and_false_alarms_add_up(report):
    words = Page(report).words
    found, of = map(int, re.search(r"(\d+) of (\d+)", words).groups())
    assert of == 8
    assert f"{of - found} would slip through" in words


def test_roc_and_precision_recall_go_through_the_points_of_a_case_by_hand():
    good, bad = np.array([2, 1, 0, 1]), np.array([0, 1, 2, 1])  # by level, lowest first
    np.testing.assert_allclose(roc_curve(good, bad), [[0, 0], [0.25, 0.25], [0.25, 0.75], [0.5, 1], [1, 1]])
    np.testing.assert_allclose(
        precision_recall_curve(good, bad), [[0, 0.5], [0.25, 0.5], [0.75, 0.75], [1, 4 / 6], [1, 0.5]]
    )


def test_a_curve_of_a_million_points_is_thinned_and_keeps_its_ends():
    draw = np.random.default_rng(0)
    curve = roc_curve(draw.integers(0, 9, 1 << 16), draw.integers(0, 9, 1 << 16))
    assert len(curve) <= 300
    np.testing.assert_allclose(curve[[0, -1]], [[0, 0], [1, 1]])


@pytest.mark.parametrize(("good", "bad"), [([0.5], [0.5]), ([], [0.2]), ([0.0, 1.0], [1.0])])
def test_a_histogram_of_next_to_nothing_is_still_a_picture(good, bad):
    drawn = charts.histogram(np.array(good, float), np.array(bad, float), 0.7, "words")
    assert Page(drawn).open == []
    assert "nan" not in drawn


def test_an_axis_begins_at_zero_when_a_figure_is_worse_than_most():
    rows = [charts.Bar("one", 90, 80, 95), charts.Bar("other", 35, 20, 50, other=99)]
    assert ">0<" in charts.intervals(rows, "words")
    assert ">0<" not in charts.intervals(rows[:1], "words")
