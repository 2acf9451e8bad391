"""Every version of the journal's schema becomes today's, and loses no row on the way."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, NullPool, create_engine, event, inspect
from sqlalchemy.engine import Connection, Engine

from edge_agent.core import MQTT, AlarmEvent
from edge_agent.journal import migrations
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from edge_agent.journal.review import Selection, open_review
from edge_agent.journal.tables import metadata
from tests.line import evidence, inspected, message, stored_file


def scripts(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


VERSIONS = [script.revision for script in ScriptDirectory.from_config(scripts()).walk_revisions()][::-1]


def connect(url: str) -> Connection:
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool).connect()


def schema(connection: Connection) -> dict[str, object]:
    """All that the database says of its tables, version table left out."""
    found = inspect(connection)
    return {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table)},
            found.get_pk_constraint(table),
            found.get_foreign_keys(table),
            sorted(map(str, found.get_unique_constraints(table))),
            {
                index["name"]: (
                    index["column_names"],
                    index["unique"],
                    {option: str(value) for option, value in index.get("dialect_options", {}).items()},
                )
                for index in found.get_indexes(table)
            },
        )
        for table in found.get_table_names()
        if table != migrations.VERSION_TABLE
    }


def test_the_newest_version_is_the_one_that_a_journal_is_opened_at() -> None:
    assert ScriptDirectory.from_config(scripts()).get_current_head() == migrations.HEAD == VERSIONS[-1]


@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_opening_leads_from_every_version_to_the_tables_of_today(url: str, version: str | None) -> None:
    if version is not None:
        with connect(url) as connection:
            command.upgrade(scripts(connection), version)
            connection.commit()
    with closing(Journal.open(url)) as journal:
        inspection = inspected(AlarmEvent.RAISED, file=stored_file())
        assert journal.record(inspection, evidence(), [message(inspection)])
        assert journal.outbox(MQTT).pending(1)[0].message.payload["inspection"] == inspection.id
    with connect(url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        migrated = schema(connection)
        others = MetaData()
        others.reflect(connection)
        others.drop_all(connection)
        metadata.create_all(connection)
        assert schema(connection) == migrated


def test_a_new_journal_is_said_once_and_one_that_is_up_to_date_not_at_all(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="edge_agent")
    for _ in range(2):
        Journal.open(url).close()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("edge_agent")]
    assert len(said) == 1
    assert said[0].endswith(": creating a new one")


class PowerCut(Exception):
    pass


def test_a_migration_that_ends_half_way_is_undone_whole(url: str) -> None:
    with connect(url) as connection:  # a file without tables, so that SQLite's journal is made in place
        connection.exec_driver_sql("CREATE TABLE scratch (number int)")
        connection.exec_driver_sql("DROP TABLE scratch")
        connection.commit()

    def cut(connection: object, cursor: object, statement: str, *others: object) -> None:
        if "CREATE TABLE outbox" in statement:
            raise PowerCut

    event.listen(Engine, "before_cursor_execute", cut)
    try:
        with pytest.raises(PowerCut):
            Journal.open(url)
    finally:
        event.remove(Engine, "before_cursor_execute", cut)
    with connect(url) as connection:
        assert inspect(connection).get_table_names() == []
    Journal.open(url).close()


def test_labels_of_a_journal_of_schema_0010_know_the_verdicts_that_they_are_about(url: str) -> None:
    with connect(url) as connection:
        command.upgrade(scripts(connection), "0010")
        moment = (
            "2026-11-20 08:15:30+00:00"
            if connection.dialect.name == "postgresql"
            else "2026-11-20T08:15:30.000000+00:00"
        )
        for number, evaluation in ((1, "NotOK"), (2, "OK")):
            connection.exec_driver_sql(
                "INSERT INTO inspections (id, station, seq, taken_at, inspected_at, width, height, evaluation,"
                " threshold, model, model_sha256, checkpoint_sha256, config_sha256, timings, simulated)"
                f" VALUES ('i{number}', 'cam1', {number}, '{moment}', '{moment}', 64, 48, '{evaluation}',"
                " 0.62, 'm', 's', 's', 's', '{}', false)"
            )
        for inspection, label in (("i1", "good"), ("i2", "defect"), ("gone", "good")):
            connection.exec_driver_sql(
                "INSERT INTO labels (inspection, station, label, who, said_at)"
                f" VALUES ('{inspection}', 'cam1', '{label}', 'anna', '{moment}')"
            )
        connection.commit()
    Journal.open(url).close()
    with open_review(url) as journal:
        assert [one.id for one in journal.page(Selection(which="false_alarm"), 9).inspections] == ["i1"]
        assert [one.id for one in journal.page(Selection("cam1", which="missed"), 9).inspections] == ["i2"]


def test_messages_of_a_journal_of_schema_0004_keep_their_place_and_no_seq_is_given_twice(url: str) -> None:
    with connect(url) as connection:
        command.upgrade(scripts(connection), "0004")
        moment = "2026-11-20 08:15:30+00:00"
        for number in (1, 2, 3, 4):
            connection.exec_driver_sql(
                "INSERT INTO inspections (id, station, seq, taken_at, inspected_at, width, height, evaluation,"
                " threshold, model, model_sha256, checkpoint_sha256, config_sha256, timings, simulated)"
                f" VALUES ('i{number}', 'cam1', {number}, '{moment}', '{moment}', 64, 48, 'OK',"
                " 0.62, 'm', 's', 's', 's', '{}', false)"
            )
            connection.exec_driver_sql(
                "INSERT INTO outbox (id, kind, station, payload, inspection, created_at, sent_at, dropped)"
                f" VALUES ('m{number}', 'alarm', 'cam1', '{{}}', {number}, '{moment}',"
                f" {'NULL' if number in (2, 4) else repr(moment)}, {repr('old') if number == 3 else 'NULL'})"
            )
        connection.exec_driver_sql("DELETE FROM outbox WHERE id = 'm4'")  # as retention does; its seq stays used
        connection.commit()
    with closing(Journal.open(url)) as journal:
        (waits,) = journal.outbox("mqtt").pending(10)
        assert (waits.seq, waits.message.id) == (2, "m2")
        assert [one.map_threshold for one in journal.inspections()] == [None] * 4
        inspection = inspected(AlarmEvent.RAISED)
        journal.record(inspection, evidence(), [message(inspection)])
        assert [row.seq for row in journal.outbox("mqtt").pending(10)] == [2, 5]
    with open_reader(url) as reader:
        assert [(one.seq, one.dropped) for one in reader.dropped()] == [(3, "old")]
