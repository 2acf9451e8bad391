"""`limits:`, how large pictures may be and how many are read at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_agent.settings.section import Section
from edge_agent.settings.values import Positive


class LimitsConfig(Section):
    """Limits of the whole agent.

    max_megapixels: larger pictures are NotDecidable. batch_size: the most pictures that the detector reads at once.
    max_wait_ms: the longest that a picture waits for those of other stations, to be read in one batch.
    """

    max_megapixels: Positive = 100.0
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    max_wait_ms: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 5.0
