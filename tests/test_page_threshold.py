"""The threshold: what another one would have done, and what that promises."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from edge_agent.core import Evaluation
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.review import open_review
from edge_agent.journal.rows import LabelValue
from edge_agent.page.bound import upper_bound
from edge_agent.page.threshold import BINS, bars, outcome
from tests.pages import journal_of, page, part, shift


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
