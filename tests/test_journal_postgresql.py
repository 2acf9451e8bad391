"""What the journal says, and keeps, when its PostgreSQL server is not as it should be."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from urllib.parse import quote

import pytest

from edge_agent.core import MQTT, AlarmEvent
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
from tests.line import evidence, inspected, message
from tests.postgres import PASSWORD, Server


def refusal(url: str) -> str:
    """What is said when `url` is opened; never the password."""
    with pytest.raises(JournalError) as refused:
        Journal.open(url)
    assert PASSWORD not in str(refused.value)
    assert PASSWORD not in str(refused.value.__cause__)
    assert str(refused.value).startswith("journal postgresql://")
    return str(refused.value)


def test_a_second_agent_is_refused_with_the_process_of_the_first(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    with closing(Journal.open(postgresql.url(schema))):
        said = refusal(postgresql.url(schema))
        assert f"another agent uses schema {schema} (edge-agent {os.getpid()} on " in said
        assert "stop that one, or give this one its own database" in said
    Journal.open(postgresql.url(schema)).close()


def test_agents_may_share_a_database_if_each_has_its_schema(postgresql: Server) -> None:
    urls = [postgresql.url(postgresql.new_schema()) for _ in range(2)]
    with closing(Journal.open(urls[0])) as first, closing(Journal.open(urls[1])) as second:
        inspection = inspected(AlarmEvent.RAISED)
        first.record(inspection, evidence(), [message(inspection)])
        assert (first.outbox(MQTT).outbox_depth()[0], second.outbox(MQTT).outbox_depth()[0]) == (1, 0)


def test_a_server_that_went_away_costs_no_inspection_once_it_is_back(postgresql: Server, postgresql_url: str) -> None:
    with closing(Journal.open(postgresql_url)) as journal:
        before, after = inspected(AlarmEvent.RAISED), inspected(AlarmEvent.RAISED)
        journal.record(before, evidence(), [message(before)])
        postgresql.stop()
        with pytest.raises(JournalError, match="check that the server runs and is reached from here"):
            journal.record(after, evidence(), [message(after)])
        with pytest.raises(JournalError, match="check that the server runs"):
            journal.outbox(MQTT).pending(1)
        assert "check that the server runs" in str(journal.unread)
        postgresql.start()
        assert journal.record(after, evidence(), [message(after)])
        assert [row.message.payload["inspection"] for row in journal.outbox(MQTT).pending(9)] == [before.id, after.id]
        assert journal.unread is None
        # The new connection holds the schema again.
        assert "another agent uses schema" in refusal(postgresql_url)


def test_the_tables_of_another_program_are_left_alone(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    postgresql.execute(f"CREATE TABLE {schema}.orders (number int)")
    assert "database of something else (it has the table orders)" in refusal(postgresql.url(schema))


def test_a_journal_of_a_newer_version_is_left_alone(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    Journal.open(postgresql.url(schema)).close()
    postgresql.execute(f"UPDATE {schema}.journal_version SET version_num = '9999'")
    assert "written by a newer edge-agent (schema 9999;" in refusal(postgresql.url(schema))


def test_a_server_that_only_reads_is_refused(postgresql: Server) -> None:
    url = postgresql.url(postgresql.new_schema(), more="-cdefault_transaction_read_only=on")
    assert "standby or read-only: name the primary" in refusal(url)


def test_a_user_who_may_not_create_tables_is_told_what_to_grant(postgresql: Server) -> None:
    schema = postgresql.new_schema()
    postgresql.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    url = postgresql.url(schema, user="guest")
    assert "no schema of the search path exists or may be used" in refusal(url)
    postgresql.execute(f"GRANT USAGE ON SCHEMA {schema} TO guest")
    assert f"permission denied for schema {schema}: grant the user the right to create" in refusal(url)


def test_a_wrong_password_a_missing_database_and_a_missing_server_are_told_apart(postgresql: Server) -> None:
    wrong = refusal(postgresql.url(password="hash"))
    assert "password authentication failed" in wrong
    assert "check the user name and the password" in wrong
    nowhere = refusal(postgresql.url().replace("/postgres?", "/nowhere?"))
    assert 'database "nowhere" does not exist: create it on the server' in nowhere
    unreached = refusal(f"postgresql://agent:{quote(PASSWORD, safe='')}@127.0.0.1:1/line")
    assert unreached.startswith("journal postgresql://agent@127.0.0.1:1/line: ")
    assert "check that the server runs" in unreached


def test_without_psycopg_the_remedy_is_named() -> None:
    program = """
import sys
sys.modules["psycopg"] = None  # what an import then meets is what it meets where psycopg is not installed
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
try:
    Journal.open("postgresql://agent:secret@host/line")
except JournalError as refused:
    print(refused)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "psycopg is not installed: pip install 'edge-agent[postgresql]'" in answer.stdout
    assert "secret" not in answer.stdout
