"""What `edge-agent doctor` reports of one thing that it has examined."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. state: "ok", "warning" (it works, but), or "failed" (it would not)."""

    name: str
    state: str
    text: str
