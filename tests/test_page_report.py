"""What happened in a period: the numbers of a view, and a report that can be printed and sent."""

from __future__ import annotations

import csv
import io
import re
from contextlib import closing
from dataclasses import replace
from datetime import datetime, time
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from starlette.testclient import TestClient

from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.core import Evaluation
from edge_agent.errors import ConfigError
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.review import Selection, open_review
from edge_agent.journal.rows import LabelValue
from edge_agent.page.shifts import by_shift, by_station, kinds, spans
from edge_agent.settings.page import SHIFTS
from tests.pages import journal_of, page, part, shift

HOUR = ["--since", "2026-11-20T10:00Z", "--until", "2026-11-20T11:00Z"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The folder of a journal in which a false alarm, two defects and a miss were labelled, and one label undone."""
    folder = tmp_path_factory.mktemp("report")
    held = journal_of(folder, [*shift(), part(30, Evaluation.NOT_OK, 0.7, station="=1+1")])
    good, defect, none = LabelValue.GOOD, LabelValue.DEFECT, LabelValue.NONE
    said = [
        (1, good, None),
        (4, defect, "dent"),
        (5, defect, "dent"),
        (0, defect, "=cmd()"),
        (2, good, None),
        (2, none, None),
    ]
    with open_labels(f"sqlite:///{folder}/journal.db") as labels:
        for place, value, kind in said:
            labels.say(Statement(held[place].id, value, kind), "anna")
    return folder, held


def test_numbers_count_what_people_said_and_nothing_that_was_undone(labelled):
    folder, _ = labelled
    with open_review(f"sqlite:///{folder}/journal.db") as journal:
        numbers = {one.station: one for one in journal.numbers(Selection())}
        hour = {one.station: one for one in journal.numbers(Selection("cam1", shift()[5].frame.taken_at))}
    cam1, cam2 = numbers["cam1"], numbers["cam2"]
    assert (cam1.parts, cam1.not_ok, cam1.undecided) == (4, 2, 0)
    assert (cam1.false_alarms, cam1.confirmed, cam1.missed) == (1, 1, 1)
    assert dict(cam1.kinds) == {"dent": 1, "=cmd()": 1}
    assert (cam2.parts, cam2.not_ok, cam2.confirmed) == (2, 1, 1)
    assert hour["cam1"].parts == 1


@pytest.mark.parametrize(
    ("which", "parts"),
    [
        ("not_ok", ["SN-bad-3", "SN30", "SN-bad-2", "SN-bad-1"]),
        ("false_alarm", ["SN-bad-1"]),
        ("missed", ["SN0"]),
        ("look", ["SN-bad-3", "SN30", "SN-bad-2", "SN-border", "SN-bad-1"]),
    ],
)
def test_a_selection_holds_what_it_is_called(labelled, which, parts):
    folder, held = labelled
    names = {held[0].part_id: "SN0", held[6].part_id: "SN30"}
    with open_review(f"sqlite:///{folder}/journal.db") as journal:
        found, older = [], None
        while True:  # one at a time, so that each page begins behind the one before
            some = journal.page(Selection(which=which), 1, older)
            found += [names.get(one.part_id, one.part_id) for one in some.inspections]
            if (older := some.older) is None:
                break
        assert found == parts
        if which in ("false_alarm", "missed"):
            (only,) = journal.page(Selection(which=which), 9).inspections
            assert journal.neighbours(only.id, Selection(which=which)) == (None, None)


def test_the_rejects_of_an_hour_with_their_pictures_and_which_were_false_alarms(
    labelled, tmp_path, capsys, monkeypatch
):
    folder, held = labelled
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    out = tmp_path / "report.html"
    assert main(["report", "--journal", f"{folder}/journal.db", *HOUR, "--only", "not_ok", "--out", str(out)]) == 0
    assert "cam1: 3 parts, 1 NotOK; labelled: 1 false alarms, 0 confirmed, 1 missed" in capsys.readouterr().out
    html = out.read_text()
    assert re.findall(r"<b>(.*?)</b>", html) == [held[6].part_id, "SN-bad-2", "SN-bad-1"]
    assert html.count('src="data:image/jpeg;base64,') == 3
    assert re.search(r"Good part.*anna", html)
    assert not re.search(r"<script|https?://|<link", html)


def test_the_same_as_csv_has_no_formula_in_it(labelled, tmp_path):
    folder, _ = labelled
    out = tmp_path / "report.csv"
    assert main(["report", "--journal", f"{folder}/journal.db", *HOUR, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert [row["label"] for row in rows].count("good") == 1
    with page(folder) as app:
        text = (
            TestClient(app, base_url="http://127.0.0.1")
            .get("/numbers.csv?since=2026-11-20T00:00&until=2026-11-21T00:00")
            .text
        )
    assert not re.search(r"(^|,)=", text, re.MULTILINE)
    assert {row["station"]: row["parts"] for row in csv.DictReader(io.StringIO(text))} == {
        "'=1+1": "1",
        "cam1": "4",
        "cam2": "2",
    }


def test_the_numbers_of_a_day_are_a_view_and_longer_periods_are_the_commands(labelled):
    folder, _ = labelled
    with page(folder) as app, closing(TestClient(app, base_url="http://127.0.0.1")) as client:
        html = client.get("/numbers?since=2026-11-20T00:00&until=2026-11-21T00:00").text
        assert re.search(r"<th>cam1</th><td>4</td><td>2</td><td>50.00 %</td>", html)
        assert "Nothing was inspected in this time" in client.get("/numbers").text
        assert client.get("/numbers?since=2020-01-01T00:00").status_code == 400


@pytest.mark.parametrize("wrong", [["--until", "2026-11-20T10:00Z"], ["--out", "report.pdf"]])
def test_a_report_that_cannot_be_is_refused(labelled, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", "--journal", "x.db", *HOUR, *wrong])
    assert ended.value.code == 2
    assert re.search("is not after --since|ends in .html or .csv", capsys.readouterr().err)


def test_what_comes_from_outside_never_becomes_markup_in_a_report(tmp_path, monkeypatch):
    hostile = "<script>alert(1)</script>"
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    one = part(0, Evaluation.NOT_OK, 0.9, part_id=hostile, station=hostile)
    journal_of(tmp_path, [one])
    with open_labels(f"sqlite:///{tmp_path}/journal.db") as labels:
        labels.say(Statement(one.id, LabelValue.DEFECT, hostile), hostile)
    out = tmp_path / "report.html"
    assert main(["report", "--journal", f"{tmp_path}/journal.db", "--since", "2026-11-01", "--out", str(out)]) == 0
    assert "<script" not in out.read_text()
    assert out.read_text().count("&lt;script&gt;") >= 4


BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("since", "until", "cuts"),
    [
        ("2026-11-20T07:00", "2026-11-20T15:00", ["07:00", "14:00", "15:00"]),
        ("2026-11-20T06:00", "2026-11-20T14:00", ["06:00", "14:00"]),
        ("2026-11-20T23:00", "2026-11-21T15:00", ["23:00", "06:00", "14:00", "15:00"]),
        ("2026-10-24T22:00", "2026-10-25T06:00", ["22:00", "06:00"]),  # the night in which clocks go back
        ("2026-11-20T07:00", "2026-11-20T07:00", ["07:00", "07:00"]),
    ],
)
def test_a_period_is_cut_where_shifts_begin_by_the_clock_on_the_wall(since, until, cuts):
    found = spans(at(since), at(until), SHIFTS, BERLIN)
    assert [f"{one.astimezone(BERLIN):%H:%M}" for one, _ in found] + [
        f"{found[-1][1].astimezone(BERLIN):%H:%M}"
    ] == cuts
    assert all(end == begin for (_, end), (begin, _) in pairwise(found))


def test_numbers_of_shifts_add_up_to_those_of_their_stations(labelled):
    folder, _ = labelled
    whole = Selection(since=at("2026-11-20T00:00"), until=at("2026-11-21T00:00"))
    with open_review(f"sqlite:///{folder}/journal.db") as journal:
        rows = by_shift(journal, whole, whole.until, (time(10), time(12), time(22)), BERLIN)
        for one, other in zip(by_station(rows), journal.numbers(whole), strict=True):
            assert dict(one.kinds) == dict(other.kinds)
            assert replace(one, kinds=()) == replace(other, kinds=())
    assert [(f"{row.begin.astimezone(BERLIN):%H}", row.numbers.station, row.numbers.parts) for row in rows] == [
        ("10", "=1+1", 1),
        ("10", "cam1", 3),
        ("10", "cam2", 2),
        ("12", "cam1", 1),
    ]
    dent, other = kinds(by_station(rows))
    assert (dent.name, dent.count, round(dent.share, 3), other.up_to_here) == ("dent", 2, 0.667, 1.0)


def test_the_report_speaks_german_and_has_shifts_and_kinds(labelled, tmp_path, capsys, monkeypatch):
    folder, _ = labelled
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    out = tmp_path / "report.html"
    command = ["report", "--journal", f"{folder}/journal.db", *HOUR, "--out", str(out)]
    assert main(command) == 0
    html = out.read_text()
    assert '<html lang="de">' in html
    assert "Nach Schicht" in html
    assert "sehenswert" in html.lower()
    assert re.search(r"<th>dent</th><td>1</td><td>50\.0 %</td>", html)
    assert main([*command, "--language", "en"]) == 0
    assert "By shift" in out.read_text()


def test_numbers_are_written_as_csv_by_shift_and_station(labelled, tmp_path, capsys):
    folder, _ = labelled
    out = tmp_path / "numbers.csv"
    command = ["report", "--journal", f"{folder}/journal.db", *HOUR, "--numbers", "--out"]
    assert main([*command, str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert sum(int(row["parts"]) for row in rows if row["station"] == "cam1") == 3
    assert all(datetime.fromisoformat(row["begin"]) < datetime.fromisoformat(row["end"]) for row in rows)
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "x.html")])


@pytest.mark.parametrize("shifts", ["[]", "[6:00, 6:00]", "[25:00]", "[six]", "6:00", "[[6:00]]"])
def test_shifts_that_make_no_sense_are_refused(tmp_path, shifts):
    config = tmp_path / "config.yaml"
    config.write_text(f"page: {{shifts: {shifts}}}\nstations: [{{name: a, source: {{folder: in}}}}]\n")
    with pytest.raises(ConfigError, match="shifts"):
        load_config(config)
    config.write_text(config.read_text().replace(f"shifts: {shifts}", "shifts: [22:00, 6:00]"))
    assert load_config(config).page.shifts == (time(6), time(22))
