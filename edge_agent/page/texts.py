"""The languages of the page: English as it is written in the templates, the others from catalogues in locale/."""

from __future__ import annotations

from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel.core import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FOLDER = Path(__file__).parent / "locale"
ENGLISH = "en"


@cache
def languages() -> tuple[str, ...]:
    """Return the codes of the languages that there are, English first."""
    return ENGLISH, *sorted(path.stem for path in FOLDER.glob("*.po"))


def language_for(accepted: str) -> str:
    """Return the language that suits a browser best. accepted: its Accept-Language header."""
    wanted: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        name, _, quality = part.partition(";q=")
        try:
            wanted.append((-float(quality or 1), name.strip().replace("-", "_")))
        except ValueError:
            continue
    return negotiate_locale([name for _, name in sorted(wanted, key=lambda one: one[0])], languages()) or ENGLISH


@cache
def translations(language: str) -> NullTranslations:
    """Return the texts of a language that there is."""
    if language == ENGLISH:
        return NullTranslations()
    compiled = BytesIO()
    with (FOLDER / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def later(text: str) -> str:
    """Return a sentence as it is, in English: it is translated where it is shown, and the catalogues have it."""
    return text
