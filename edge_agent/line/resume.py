"""Completes the inspections that the end of an agent has left without their pictures and messages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.core import Evidence, EvidenceState, Inspection, Record
from edge_agent.line.inspect import MessageBuilder, Unfinished

log = logging.getLogger(__name__)


def complete_unfinished(
    journal: Unfinished, found: Callable[[Inspection], Evidence], build_messages: MessageBuilder
) -> None:
    """Record what is there of their pictures, that others are missing, and the messages; call before the line runs.

    Args:
        journal: knows the inspections, and records.
        found: returns the pictures that were written.
        build_messages: gives the messages of an inspection.

    Raises:
        JournalError: the journal takes nothing.
    """
    missing = 0
    unfinished = journal.unfinished()
    for inspection in unfinished:
        try:
            evidence = found(inspection)
        except OSError:
            evidence = Evidence(state=EvidenceState.INTERRUPTED)
        missing += evidence.state is EvidenceState.INTERRUPTED
        try:
            messages = build_messages(inspection, evidence)
        except Exception:  # the line sets such an inspection aside, too
            log.exception("the messages of inspection %s cannot be made", inspection.id)
            messages = []
        journal.commit([Record(inspection, evidence, messages, completes=True)])
    if unfinished:
        log.warning(
            "the agent ended before the pictures of %d recorded inspections were kept: their messages are told now, and of %d "
            "no picture is left", len(unfinished), missing,
        )  # fmt: skip
