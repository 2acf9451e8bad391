"""The messages that wait for one receiver: a sender reads them here and marks them as sent; sends nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timezone

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from edge_agent.core import OutboxRow
from edge_agent.journal.rows import waiting
from edge_agent.journal.tables import deliveries, epoch_of, outbox, retained

Transaction = Callable[[], AbstractContextManager[Connection]]


class Outbox:
    """The view of the journal's outbox for one receiver. Every method may be called from any thread and raises JournalError."""

    def __init__(self, receiver: str, reading: Transaction, writing: Transaction) -> None:
        """Select the messages of one receiver.

        Args:
            receiver: its name, as in `Message.receivers`.
            reading: opens a transaction that reads.
            writing: opens a transaction that writes.
        """
        self._reading, self._writing = reading, writing
        self._receiver = receiver
        self._waits = (deliveries.c.receiver == receiver) & deliveries.c.sent_at.is_(None)
        self._of_receiver = deliveries.c.receiver == receiver

    def pending(self, limit: int) -> list[OutboxRow]:
        """Return the first `limit` messages that are not marked as sent, in seq order."""
        query = select(outbox, epoch_of(outbox.c.seq)).join(deliveries, deliveries.c.seq == outbox.c.seq)
        query = query.where(self._waits)
        with self._reading() as connection:
            return [waiting(row) for row in connection.execute(query.order_by(deliveries.c.seq).limit(limit))]

    def mark_sent(self, seqs: Iterable[int]) -> None:
        """Take messages out of the queue for good; call it when the receiver has acknowledged them."""
        rows = [{"sent": seq} for seq in seqs]
        if rows:
            one = update(deliveries).where(deliveries.c.seq == bindparam("sent"), self._of_receiver)
            with self._writing() as connection:
                connection.execute(one.values(sent_at=datetime.now(timezone.utc)), rows)

    def set_aside(self, seq: int, reason: str) -> None:
        """Record that a message is not sent any more, and why; it is listed with the dropped ones."""
        one = update(deliveries).where(deliveries.c.seq == seq, self._waits)
        with self._writing() as connection:
            connection.execute(one.values(sent_at=datetime.now(timezone.utc), dropped=reason))

    def outbox_depth(self) -> tuple[int, datetime | None]:
        """Return how many messages wait, and when the first of them was recorded (None when none waits)."""
        first = select(func.min(deliveries.c.seq)).where(self._waits).scalar_subquery()
        oldest = select(outbox.c.created_at).where(outbox.c.seq == first).scalar_subquery()
        query = select(func.count(), oldest).select_from(deliveries).where(self._waits)
        with self._reading() as connection:
            count, created_at = connection.execute(query).one()
        return count, created_at

    def retained(self) -> set[str]:
        """Return the topics that the receiver may keep for later subscribers."""
        with self._reading() as connection:
            return set(connection.scalars(select(retained.c.topic).where(retained.c.receiver == self._receiver)))

    def retain(self, topics: Collection[str]) -> None:
        """Record, before it is published, that the receiver keeps these topics until they are cleared."""
        if new := set(topics) - self.retained():
            with self._writing() as connection:
                connection.execute(insert(retained), [{"receiver": self._receiver, "topic": one} for one in new])

    def forget(self, topics: Collection[str]) -> None:
        """Record that the receiver keeps these topics no longer."""
        which = retained.c.receiver == self._receiver, retained.c.topic.in_(list(topics))
        if topics:
            with self._writing() as connection:
                connection.execute(delete(retained).where(*which))
