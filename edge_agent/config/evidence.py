"""`evidence:`, which pictures are kept, where and for how long."""

from __future__ import annotations

from pathlib import Path

from edge_agent.evidence.choices import Format, Kept
from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Positive


class EvidenceConfig(Section):
    """The pictures that are kept in folder (default: evidence in agent.data_dir).

    originals, overlays: of which verdicts; "not_ok" is all but OK. format: of overlays; originals are PNG, which is
    lossless. Pictures are deleted when they are older than keep_days, or when all are larger than keep_gb (1e9 bytes).
    """

    folder: Folder = Path("evidence")
    originals: Kept = "not_ok"
    overlays: Kept = "not_ok"
    format: Format = "jpg"
    keep_days: Positive = 30.0
    keep_gb: Positive = 20.0
