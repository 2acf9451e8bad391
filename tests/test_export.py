"""`edge-agent export`: every inspection of a time, once, as a table that others can read; whole or not at all."""

from __future__ import annotations

import argparse
import csv
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands.export import VERDICTS
from edge_agent.commands.moments import local, moment
from edge_agent.core import AlarmEvent, Evaluation
from edge_agent.errors import EdgeAgentError
from edge_agent.journal.export import COLUMNS, export
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from edge_agent.journal.rows import RecordedInspection
from tests.agent import write_config
from tests.line import NOON, evidence, inspected, not_decidable, stored_file

DAY = timedelta(days=1)


def filled(url: str) -> Journal:
    """A defect with text that tables stumble over, one good part a day later, one that could not be decided."""
    journal = Journal.open(url)
    odd = stored_file('/pictures/Späne, "鉄"\n;=1+1.png')
    assert journal.record(inspected(AlarmEvent.RAISED, file=odd, taken_at=NOON), evidence(), [])
    assert journal.record(inspected(taken_at=NOON + DAY), evidence("2"), [])
    assert journal.record(not_decidable("is empty"), evidence("3"), [])
    return journal


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_what_lies_between_two_days_beside_the_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    out = tmp_path / "out.csv"
    arguments = ["export", "--config", str(config), "--since", "2026-11-20T00:00Z", "--until", "2026-11-21T00:00Z"]
    with closing(filled(f"sqlite:///{tmp_path}/data/journal.db")):
        assert main([*arguments, "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"2 inspections in {out}\n"
        assert main([*arguments, "--station", "cam2", "--out", str(tmp_path / "cam2.csv")]) == 0
        assert capsys.readouterr().out.startswith("0 inspections in ")
        chosen = [*arguments, "--verdict", "NotOK", "--verdict", "OK", "--out", str(tmp_path / "chosen.csv")]
        assert main(chosen) == 0
        said = capsys.readouterr()
        assert said.out.startswith("1 inspection in ")
        midnight = datetime(2026, 11, 20, tzinfo=timezone.utc)
        assert said.err == f"taken since {local(midnight)} until {local(midnight + DAY)}\n"
        with pytest.raises(SystemExit) as ended:
            main(["export", "--since", "2026-11-21", "--until", "2026-11-20", "--out", str(out)])
        assert ended.value.code == 2
        assert "--until, 2026-11-20 00:00 " in capsys.readouterr().err
    rows = {row["evaluation"]: row for row in rows_of(out)}
    defect, undecided = rows["NotOK"], rows["NotDecidable"]
    assert tuple(defect) == tuple(COLUMNS)
    assert defect["origin"] == '/pictures/Späne, "鉄"\n;=1+1.png'
    assert datetime.fromisoformat(defect["taken_at"]) == NOON
    assert float(defect["score"]) == 0.875
    assert [region["area_px"] for region in json.loads(defect["regions"])] == [812, 5]
    assert (undecided["score"], undecided["reason"]) == ("", "is empty")


def test_no_cell_is_a_formula_to_a_spreadsheet_and_numbers_stay_numbers(tmp_path: Path) -> None:
    with closing(Journal.open(f"sqlite:///{tmp_path}/journal.db")) as journal:
        for part in ("=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-2", "SN=1"):
            journal.record(inspected(part_id=part, score=0.25), evidence(), [])
        pages = [journal.inspections()]
    export(pages, tmp_path / "out.csv", "csv")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["part_id"] for row in rows] == ["'=cmd|' /C calc'!A0", "'@SUM(1)", "'+1", "'-2", "SN=1"]
    assert {float(row["score"]) for row in rows} == {0.25}


def test_the_verdicts_to_choose_from_are_all_there_are() -> None:
    assert tuple(one.value for one in Evaluation) == VERDICTS


def test_parquet_has_the_same_values_with_their_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(filled(url)), open_reader(url) as journal:
        for fmt in ("csv", "parquet"):
            assert export(journal.inspections(), tmp_path / fmt, fmt) == 3  # type: ignore[arg-type]
    table = parquet.read_table(tmp_path / "parquet")
    assert table.column_names == list(COLUMNS)
    assert min(table["taken_at"].to_pylist()) == NOON
    assert table["score"].type == "double"
    shown = [{key: "" if v is None else str(v) for key, v in row.items()} for row in table.to_pylist()]
    for row, other in zip(shown, rows_of(tmp_path / "csv"), strict=True):
        for key in set(COLUMNS) - {"taken_at", "inspected_at"}:
            assert row[key] == other[key]


def test_every_inspection_comes_once_however_many_share_a_moment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.journal.reader.PAGE", 3)
    with closing(Journal.open(url)) as journal, open_reader(url) as visitor:
        for number in range(20):
            journal.record(inspected(taken_at=NOON + timedelta(seconds=number // 8)), evidence(), [])
        pages = list(visitor.inspections())
        assert max(map(len, pages)) == 3
        assert [one.id for page in pages for one in page] == [one.id for one in journal.inspections()]
        assert sum(map(len, visitor.inspections(NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)))) == 8


def test_an_export_that_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("of before")

    def broken() -> Iterator[Sequence[RecordedInspection]]:
        yield []
        raise EdgeAgentError("the disk fails")

    with pytest.raises(EdgeAgentError, match="the disk fails"):
        export(broken(), out, "csv")
    assert out.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(EdgeAgentError, match="No such file or directory: name a file in a folder"):
        export([], tmp_path / "nowhere" / "out.csv", "csv")


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_a_long_export_is_never_in_memory_whole(tmp_path: Path, fmt: str) -> None:
    if fmt == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(filled(url)) as journal:
        page = journal.inspections() * 30

    export([page], tmp_path / "out", fmt)  # type: ignore[arg-type]  # imports
    tracemalloc.start()
    try:
        assert export((page for _ in range(40)), tmp_path / "out", fmt) == 3600  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3600 * 300  # bytes; the rows of all take ten times that


def test_days_are_this_machines_and_moments_may_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert moment("2026-11-20") == datetime(2026, 11, 19, 23, tzinfo=timezone.utc)
        assert moment("2026-11-20T06:00Z") == datetime(2026, 11, 20, 6, tzinfo=timezone.utc)
        six = datetime(2026, 11, 20, 5, tzinfo=timezone.utc)
        for text in (
            "2026-11-20 6:00", "20.11.2026 06:00", "20.11.26 6:00:00", "20 Nov 2026 6:00", "Nov 20, 2026 06:00",
            "20 november 2026 06:00", "11/20/2026 06:00", "20/11/2026 06:00", " 2026/11/20 06:00 ",
        ):  # fmt: skip
            assert moment(text) == six, text
        assert local(six) == "2026-11-20 06:00 CET (UTC+01:00)"
        today = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        assert moment("today") == today
        assert moment("10:00").date() == today.date()
        assert moment("10:00").hour == 10
        assert moment("yesterday 22:30").date() == today.date() - DAY
        assert moment(f"{today.day}.{today.month}.") == today
        past = moment("2h ago")
        assert timedelta(hours=2) <= datetime.now().astimezone() - past < timedelta(hours=2, minutes=1)
        for text in ("soon", "25:00", "2026-13-01", "31.02.2026", "99999999d", "10:00 pm"):
            with pytest.raises(argparse.ArgumentTypeError, match="is no day such as 2026-11-20"):
                moment(text)
        with pytest.raises(
            argparse.ArgumentTypeError, match="'04/03/2026' may be two days: write it as 2026-MONTH-DAY"
        ):
            moment("04/03/2026")
    finally:
        monkeypatch.undo()
        time.tzset()
