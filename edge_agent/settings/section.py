"""What every section of config.yaml is: a frozen pydantic model in which every key is known."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Loc = tuple[str | int, ...]  # where in the file, or in a section: ("stations", 1, "name")


class Section(BaseModel):
    """A section of the file: frozen, and every key in it is known."""

    # defer_build: a section that is not loaded is not built, so that `edge-agent --help` answers at once.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)
