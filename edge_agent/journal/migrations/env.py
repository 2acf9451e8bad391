"""Runs the migrations on the caller's connection, in its transaction; Alembic executes this file."""

from __future__ import annotations

from alembic import context

from edge_agent.journal.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
