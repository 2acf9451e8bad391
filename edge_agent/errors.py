"""What can go wrong in the world outside, by name; everything else is a bug and stops the agent."""

from __future__ import annotations


class EdgeAgentError(Exception):
    """A failure whose message says what, where, and what to do; shown to the user without a traceback."""


class ConfigError(EdgeAgentError):
    """config.yaml is not usable; the message holds one line per error, each with its place."""


class CheckpointError(EdgeAgentError):
    """Weights or prompts are missing, damaged, or made for something else."""


class DeviceMissing(CheckpointError):
    """The configured device cannot be used now; a new start may find it, as when a driver comes up late."""


class PictureError(EdgeAgentError):
    """A stored picture cannot be decoded or is outside the allowed size; its inspection is NotDecidable."""


class DamageError(PictureError):
    """The bytes of a picture are damaged; says what is wrong with them and where. Whoever knows the file's name adds it."""


class SourceLost(EdgeAgentError):
    """A camera or folder is gone for now; the source retries with backoff."""


class SinkDown(EdgeAgentError):
    """A broker or disk does not take data for now; what must not be lost waits in the journal."""


class DetectorLost(EdgeAgentError):
    """A detector fails on every picture; the agent stops, as a new process may do better."""


class JournalError(EdgeAgentError):
    """The database cannot be opened or used: damaged, locked, full, or of a newer version. Never answered with a new one."""


class JournalGone(EdgeAgentError):
    """A file of the journal was deleted or replaced while it was in use; no JournalError, as trying again does not help."""


class JournalOverwritten(JournalGone):
    """The content of the journal's files was changed by another program, so that closing it would spoil what is left."""


class JournalInUse(JournalError):
    """Another agent holds the journal."""


class LabelRefused(EdgeAgentError):
    """A label that cannot be recorded: its inspection is unknown, or its box does not lie in the picture."""
