"""Any overlay can be drawn again from the journal, as it was judged, whatever the rules are today."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.core import Evidence, EvidenceState, SavedFile
from edge_agent.errors import EdgeAgentError
from edge_agent.evidence.redraw import redraw
from edge_agent.evidence.store import EvidenceStore
from edge_agent.inference.load import load_detector
from edge_agent.journal.journal import Journal
from edge_agent.line.inspect import Station, inspect
from edge_agent.line.judge import Rules
from tests.line import TRACE, inspected

SAMPLES = Path(__file__).parents[1] / "edge_agent" / "samples"


@pytest.fixture(scope="module")
def detector():
    return load_detector()


def test_an_overlay_is_redrawn_by_the_rules_of_its_own_verdict_and_not_by_those_of_today(tmp_path, detector):
    pixels = cv2.cvtColor(cv2.imread(str(SAMPLES / "37_stator_dent.jpg")), cv2.COLOR_BGR2RGB)
    with closing(Journal.open(f"sqlite:///{tmp_path}/journal.db")) as journal:
        store = EvidenceStore(tmp_path / "evidence", originals="all", overlays="all", fmt="png")
        kept = {}
        for map_threshold in (0.3, 0.9):  # a reload in between
            rules = Rules(detector.info.threshold, map_threshold)
            station = Station("cam1", detector, rules, TRACE)
            frame = inspected(pixels=pixels, part_id=f"SN{map_threshold}").frame
            (one,) = inspect([frame], {"cam1": station}, {})
            evidence = store.save(one)
            assert journal.record(one, evidence, ())
            kept[one.id] = evidence
        overlays = set()
        for recorded in journal.inspections():
            drawn = redraw(recorded, lambda pixels: detector.read([pixels])[0])
            overlay = kept[recorded.id].overlay
            np.testing.assert_array_equal(cv2.imread(overlay.uri.removeprefix("file://"))[:, :, ::-1], drawn)
            overlays.add(drawn.tobytes())
        assert [one.map_threshold for one in journal.inspections()] == [0.3, 0.9]
        assert len(overlays) == 2, "another map threshold gives another overlay"


def test_what_cannot_be_redrawn_says_why(tmp_path):
    with closing(Journal.open(f"sqlite:///{tmp_path}/journal.db")) as journal:
        one = inspected()
        journal.record(one, Evidence(), ())
        (recorded,) = journal.inspections()
    with pytest.raises(EdgeAgentError, match=r"no kept picture: set evidence.originals"):
        redraw(recorded, never_read)
    with pytest.raises(EdgeAgentError, match="recorded without its map threshold, by an older edge-agent"):
        redraw(replace(recorded, map_threshold=None, evidence=Evidence(SavedFile("file:///x.png", "0", 1))), never_read)
    shrunk = Evidence(SavedFile("file:///x.jpg", "0", 1), state=EvidenceState.SHRUNK)
    with pytest.raises(EdgeAgentError, match="as JPEG alone, as pictures came faster"):
        redraw(replace(recorded, evidence=shrunk), never_read)


def never_read(pixels: np.ndarray):
    raise AssertionError("nothing was to be read")
