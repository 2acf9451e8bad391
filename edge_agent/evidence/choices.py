"""What can be chosen of evidence: which pictures are kept, and in which format and how large overlays are."""

from typing import Literal

Kept = Literal["none", "not_ok", "all"]  # pictures by their verdicts; not_ok is all but OK
Format = Literal["jpg", "png", "webp"]
FORMATS: tuple[Format, ...] = ("jpg", "png", "webp")

LARGEST = (
    1280  # pixels: overlays of a picture with a longer side are scaled down to this, unless the caller says otherwise
)
