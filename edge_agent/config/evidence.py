"""`evidence:`, `labels:` and `learn:`: which pictures are kept, for how long, and what is learnt from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_agent.evidence.choices import LARGEST, Format, Kept
from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Positive


class EvidenceConfig(Section):
    """The pictures that are kept in folder (default: evidence in agent.data_dir).

    originals, overlays: of which verdicts; "not_ok" is all but OK. format: of overlays; originals are PNG, which is
    lossless. overlay_side: pixels of the longer side of the picture in an overlay, at most. Pictures are deleted when they
    are older than keep_days, or when all are larger than keep_gb (1e9 bytes).

    when_behind: what to do while pictures come faster than they can be kept. shrink keeps originals as JPEG and overlays
    small; drop_ok keeps none of OK inspections; wait keeps them as ever. Where that is not enough, the line waits. shrink
    is the default, as a line on which every part is NotOK is when a picture of each is wanted, and no verdict may be late.
    """

    folder: Folder = Path("evidence")
    originals: Kept = "not_ok"
    overlays: Kept = "not_ok"
    format: Format = "jpg"
    when_behind: Literal["drop_ok", "shrink", "wait"] = "shrink"  # WhenBehind of line.keeping
    overlay_side: Annotated[int, Field(ge=480, le=16000)] = LARGEST
    keep_days: Positive = 30.0
    keep_gb: Positive = 20.0


class LabelsConfig(Section):
    """Labelled inspections and their pictures stay until `edge-agent learn` has used them, for keep_days at most."""

    keep_days: Positive = 90.0


class LearnConfig(Section):
    """What `edge-agent learn` may change. flips: the largest share of the last 1000 kept pictures that get another verdict."""

    flips: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.05
