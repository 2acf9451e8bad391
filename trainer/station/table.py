"""What was measured, in the user's words: of 100 good parts rejected, of 100 defects missed, pictures a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.bank.kinds import said_of
from trainer.station.choice import LOWEST_RATE, Measured, expected_share
from trainer.station.pictures import PictureSet

NAMED = 5  # pictures that are named where several are meant
FEW = 20  # pictures of a kind, below which a share of them says little


def rows(found: Sequence[Measured], chosen: Measured) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each: what it is, good parts rejected and defects missed of 100, pictures a second."""
    for one in found:
        mark = " *" if one is chosen else ""
        yield (
            one.candidate.words + mark,
            f"{100 * float(one.rejected.mean()):.1f}",
            f"{100 * float(one.missed.mean()):.1f}",
            f"{one.candidate.speed:.0f}",
        )


def lines(found: Sequence[Measured], chosen: Measured, pictures: PictureSet) -> Iterator[str]:
    """Yield the table as text, and what its numbers rest on.

    Args:
        found: all that were measured.
        chosen: the one that the station looks with.
        pictures: that they were measured on.
    """
    table = [
        ("", "of 100 good", "of 100 defects", "pictures"),
        ("", "rejected", "missed", "a second"),
        *rows(found, chosen),
    ]
    width = max(len(row[0]) for row in table)
    for first, *numbers in table:
        yield f"{first:{width}}" + "".join(f"  {number:>14}" for number in numbers)
    yield ""
    yield from notes(found, chosen, pictures, NAMED)


def notes(
    found: Sequence[Measured], chosen: Measured, pictures: PictureSet, most_named: int | None = None
) -> Iterator[str]:
    """Yield what the numbers rest on, in sentences.

    Args:
        found: all that were measured.
        chosen: the one that the station looks with.
        pictures: that they were measured on.
        most_named: pictures of each kind that are named where there are several kinds; default all.
    """
    good, bad = len(pictures.good), len(pictures.bad)
    yield f"* is what the station looks with, at threshold {chosen.threshold:.4f}."
    expected = f"{100 * expected_share(chosen.rate):.0f} in 100"
    estimate = (
        f" About {expected} are expected; so few pictures cannot promise that." if chosen.rate > LOWEST_RATE else ""
    )
    yield (
        f"Good parts: {good} picture{'s' * (good > 1)}, each read as if it had not been shown. Promised: of 100 further good parts like"
        f" these, at most {100 * float(chosen.rate):.1f} are rejected, on average.{estimate}"
    )
    yield from pictures.differences()
    names = [path.name for path in pictures.paths]
    yield from said_of(max((one.candidate.kinds for one in found), key=len), names, most_named)
    # A defective part among the good ones makes a bank worse, so that another candidate may be chosen: ask all of them.
    unlike = list(dict.fromkeys(at for one in found if one.candidate.checkpoint for at in one.unlike))
    if unlike:
        named = ", ".join(names[at] for at in unlike[:NAMED])
        more = f" and {len(unlike) - NAMED} more" if len(unlike) > NAMED else ""
        yield (
            f"Unlike the other good parts: {named}{more}. Look whether they are good; a defect that is shown as good is never found"
            " again. If they are not, take them out and run the command again."
        )
    if not all(one.alike for one in found):
        yield (
            "The good parts look as little like each other as like other things: a bank of them finds what is new, and not what is"
            " defective."
        )
    if pictures.painted and any(one.candidate.fitted for one in found):
        yield (
            "Prompts that were fitted on painted defects are flattered by painted ones, so they are not taken: give real defects with"
            " --bad to learn what they are worth."
        )
    if pictures.painted:
        yield (
            f"Defects: {bad} painted ones, as no real ones were given (--bad FOLDER). Painted defects tell which way of looking is"
            " better, not how many of your defects will be missed."
        )
    else:
        yield f"Defects: {bad} pictures that you gave. The way of looking was chosen on them, so expect a little more."
    if good < FEW:
        few = "pictures are" if good > 1 else "picture is"
        yield f"{good} good {few} few: with {FEW} or more, of several shifts and lots, fewer defects are missed."
    if good == 1:
        yield "A single one does not tell how far good parts lie apart: a bank of it takes that from other products. Show two or more."
    if chosen.missed.mean() > 0.5:
        yield "More than half of the defects are missed: look at the page, and show more good parts or better pictures."
