"""The list of families of backbones; a name belongs to the first family that knows it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from edge_agent.backbones.clip.family import ClipFamily
from edge_agent.backbones.efficientnet.family import EfficientNetFamily
from edge_agent.backbones.family import Family
from edge_agent.backbones.tips.embedded import EmbeddedFamily
from edge_agent.backbones.tips.family import TipsFamily
from edge_agent.backbones.tips.folder import TipsFolder
from edge_agent.backbones.trunks.family import TrunkFamily
from edge_agent.backbones.weights.published import Published
from edge_agent.errors import CheckpointError

FAMILIES: list[Family] = [
    EmbeddedFamily(),
    TipsFamily(),
    EfficientNetFamily(),
    TrunkFamily(),
    ClipFamily(),
    TipsFolder(),
]


def catalog() -> Mapping[str, Published]:
    """Return every backbone that is known by name, in the families' order."""
    return {name: known for family in FAMILIES for name, known in family.catalog.items()}


def forms() -> str:
    """Describe how backbones are named, for help texts."""
    return ", ".join(["as `edge-agent models` lists it", *(family.form for family in FAMILIES if family.form)])


def family_of(name: str) -> Family:
    """Return the family that a backbone's name belongs to. Raises CheckpointError with the nearest names."""
    for family in FAMILIES:
        if family.knows(name):
            return family
    near = difflib.get_close_matches(name, catalog(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`edge-agent models` lists them"
    raise CheckpointError(f"{name!r} is no known backbone; {hint}")
