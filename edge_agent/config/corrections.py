"""`labels:` and `learn:`, what becomes of what people say about inspections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_agent.settings.section import Section
from edge_agent.settings.values import Positive


class LabelsConfig(Section):
    """Labelled inspections and their pictures stay until `edge-agent learn` has used them, for keep_days at most."""

    keep_days: Positive = 90.0


class LearnConfig(Section):
    """What `edge-agent learn` may change. flips: the largest share of the last 1000 kept pictures that get another verdict."""

    flips: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
