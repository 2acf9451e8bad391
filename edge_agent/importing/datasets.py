"""The public data sets that authors train the prompts on that they publish."""

from __future__ import annotations

from collections.abc import Mapping

DATASETS: Mapping[str, str] = {"mvtec": "MVTec AD", "visa": "VisA"}
