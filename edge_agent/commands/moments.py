"""Reads days and moments as people write them, in this machine's time zone."""

from __future__ import annotations

import argparse
import re
from datetime import date, datetime, timedelta

_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y")
_TIME = re.compile(r"(?:^|[\sT]+)(\d{1,2}):(\d{2})(?::(\d{2}))?$")


def moment(text: str) -> datetime:
    """Parse a day or a moment as an aware datetime, in this machine's time zone unless it names one (`Z`, `+01:00`).

    2026-11-20, 2026-11-20T06:00Z, 20.11.2026 6:00, 20 Nov 2026, 10:00 (today), today, yesterday 22:00, 2h (ago).
    Raises ArgumentTypeError if it is none of these, or could be two days.
    """
    text = text.strip()
    try:
        return datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text)).astimezone()
    except (ValueError, OverflowError):
        pass
    if past := re.fullmatch(r"-?(\d{1,6})\s*(m|min|h|d|w)(\s+ago)?", text):
        return datetime.now().astimezone() - timedelta(**{_UNITS[past[2]]: int(past[1])})
    clock = _TIME.search(text)
    day = _day((text[: clock.start()] if clock else text).strip(" ,").lower(), text)
    try:
        hour, minute, second = (int(part or 0) for part in clock.groups()) if clock else (0, 0, 0)
        return datetime(day.year, day.month, day.day, hour, minute, second).astimezone()
    except (ValueError, OverflowError):
        raise _no_moment(text) from None


def local(when: datetime) -> str:
    """Return a moment as this machine's clock shows it, with its time zone: 2026-11-20 06:00 CET (UTC+01:00)."""
    when = when.astimezone()
    offset = f"{when:%z}"
    return f"{when:%Y-%m-%d %H:%M} {when.tzname()} (UTC{offset[:3]}:{offset[3:5]})"


def _day(text: str, whole: str) -> date:
    today = date.today()
    if text in ("", "today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    if slashed := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text):
        first, second = int(slashed[1]), int(slashed[2])
        if first != second and max(first, second) <= 12:
            raise argparse.ArgumentTypeError(f"{whole!r} may be two days: write it as {slashed[3]}-MONTH-DAY")
        text = f"{slashed[3]}-{min(first, second):02}-{max(first, second):02}"
    if re.fullmatch(r"\d{1,2}\.\d{1,2}\.", text):
        text += str(today.year)
    for pattern in _DATES:
        try:
            return datetime.strptime(re.sub(r"[\s,]+", " ", text), pattern).date()
        except ValueError:
            continue
    raise _no_moment(whole)


def _no_moment(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        f"{text!r} is no day such as 2026-11-20 and no 2026-11-20T06:00; 20.11.2026 6:00, 10:00, yesterday and 2h will do, too"
    )
