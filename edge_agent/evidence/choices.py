"""What can be chosen of evidence: which pictures are kept, and in which format overlays are."""

from typing import Literal

Kept = Literal["none", "not_ok", "all"]  # pictures by their verdicts; not_ok is all but OK
Format = Literal["jpg", "png", "webp"]
