"""Sentences about a picture: the product's noun, with or without a defect, and where the defect lies."""

from __future__ import annotations

from trainer.synthesis.defects.kinds import DEFECTS
from trainer.synthesis.noise import Array, Rng, chance

_FRAMES = (
    "a photo of {}",
    "a photo of {}",
    "a photo of {}",
    "{}",
    "a close-up photo of {}",
    "a picture of {}",
    "an image of {}",
    "a cropped photo of {}",
    "a photo of {} for visual inspection",
    "a photo of {} for anomaly detection",
    "there is {} in the scene",
    "this is {}",
)
_GOOD = (
    "a flawless {noun}",
    "a flawless {noun}",
    "a perfect {noun}",
    "a perfect {noun}",
    "an unblemished {noun}",
    "an unblemished {noun}",
    "{a_noun}",
    "a normal {noun}",
    "an intact {noun}",
    "a good {noun}",
    "an undamaged {noun}",
    "{a_noun} without flaw",
    "{a_noun} without defect",
    "{a_noun} without damage",
)
_BAD = (
    "a damaged {noun}",
    "a damaged {noun}",
    "a broken {noun}",
    "a defective {noun}",
    "a flawed {noun}",
    "a blemished {noun}",
    "an abnormal {noun}",
    "an imperfect {noun}",
    "{a_noun} with flaw",
    "{a_noun} with defect",
    "{a_noun} with damage",
    "{a_noun} with a defect",
)
_NAMED = (
    "a {adjective} {noun}",
    "a {adjective} {noun}",
    "{a_noun} with {a_defect}",
    "{a_noun} with {a_defect}",
    "{a_defect} on {a_noun}",
    "{a_noun} damaged by {a_defect}",
)


def with_article(words: str) -> str:
    """Return the words with "a" or "an" before them; plurals stay as they are."""
    if words.endswith("s") and not words.endswith("ss"):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(rng: Rng, noun: str, kind: str | None, *, named: bool = False) -> str:
    """Make a sentence about a product with or without a defect.

    Args:
        rng: chooses the sentence.
        noun: of the product.
        kind: a key of DEFECTS, or None for no defect.
        named: whether the sentence always names the kind; default False, some only say that there is a defect.
    """
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    words = {"noun": noun, "a_noun": with_article(noun)}
    if kind is None:
        phrase = _GOOD[rng.integers(len(_GOOD))]
    elif not named and chance(rng, 0.4):
        phrase = _BAD[rng.integers(len(_BAD))]
    else:
        phrase = _NAMED[rng.integers(len(_NAMED))]
        words |= {"adjective": DEFECTS[kind].adjective, "a_defect": with_article(DEFECTS[kind].noun)}
    text = phrase.format(**words)
    first, _, rest = text.partition(" ")
    text = with_article(rest) if first in ("a", "an") and rest[0] in "aeiou" else text
    return frame.format(text)


_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


def description(rng: Rng, noun: str, kind: str | None, mask: Array) -> str:
    """Make a longer sentence that also says how large the defect is and where.

    Args:
        rng: chooses the sentence.
        noun: of the product.
        kind: a key of DEFECTS, or None for no defect.
        mask: bool (H, W), of the defect; empty for kind None.
    """
    if kind is None or not mask.any():
        words = ("no defect can be seen", "nothing is wrong with it", "all of it looks alike and intact")
        return f"{with_article(noun)}, {words[rng.integers(3)]}"
    y, x = (float(at.mean()) / side for at, side in zip(mask.nonzero(), mask.shape, strict=True))
    row, column = _ROWS[min(int(3 * y), 2)], _COLUMNS[min(int(3 * x), 2)]
    share = float(mask.mean())
    size = "tiny" if share < 0.003 else "small" if share < 0.015 else "large" if share < 0.08 else "huge"
    place = "in the centre" if (row, column) == ("middle", "centre") else f"at the {row} {column}"
    frames = (
        "{noun} with a {size} {defect} {place}",
        "a {size} {defect} {place} of {noun}",
        "{place} {noun} has a {size} {defect}",
    )
    return frames[rng.integers(3)].format(noun=with_article(noun), size=size, defect=DEFECTS[kind].noun, place=place)
