"""The languages of the page: every text of every other language is there, and says the same values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract
from starlette.testclient import TestClient

from edge_agent.page.texts import FOLDER, language_for, languages
from tests.pages import journal_of, page, shift

PAGE = FOLDER.parent
SAYING = ("HTTPException", "_answered", "_form", "later")  # calls that take a sentence for people


def texts() -> Iterator[str]:
    """Yield every text that the page may say in another language."""
    for template in (PAGE / "templates").glob("*.html"):
        with template.open("rb") as file:
            for _, _, text, _ in babel_extract(file, ["_"], [], {"trim_blocks": "true"}):
                yield text if isinstance(text, str) else text[0]
    for path in PAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and called in SAYING:
                for one in node.args:
                    is_text = isinstance(one, ast.Constant) and isinstance(one.value, str)
                    if is_text and (called == "later" or " " in one.value):
                        yield one.value


@pytest.mark.parametrize("language", languages()[1:])
def test_a_language_has_every_text_and_no_other(language):
    with (FOLDER / f"{language}.po").open("rb") as file:
        catalogue = {str(one.id): str(one.string) for one in read_po(file) if one.id}
    wanted = set(texts())
    assert len(wanted) > 100
    assert set(catalogue) == wanted
    for text, translated in catalogue.items():
        assert translated
        assert sorted(re.findall(r"%\(\w+\)s|%%", text)) == sorted(re.findall(r"%\(\w+\)s|%%", translated)), text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.5,de;q=0.9", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr", "en"),
        ("", "en"),
        ("*", "en"),
        (";q=;;,", "en"),
        ("../../etc/passwd", "en"),
    ],
)
def test_a_browser_gets_the_language_that_suits_it_best(accepted, language):
    assert language_for(accepted) == language


def test_the_page_speaks_german_with_a_german_browser(tmp_path):
    held = journal_of(tmp_path, shift())
    with page(tmp_path, stations=("cam1",)) as app:
        client = TestClient(app, base_url="http://127.0.0.1", headers={"accept-language": "de-DE,de;q=0.9"})
        for address, said in (
            ("/line", "heute: "),
            ("/review", "sehenswert"),
            (f"/inspection/{held[0].id}", "Wert 0.100 von 0.620"),
            ("/numbers?since=2026-11-20T00:00&until=2026-11-21T00:00", "Fehlalarme"),
            ("/threshold", "bekannte Gutteile"),
            ("/inspection/x", "Das konnte nicht gezeigt werden"),
            ("/threshold?threshold=7", "Eine Schwelle ist eine Zahl von 0 bis 1."),
        ):
            html = client.get(address).text
            assert said in html
            assert '<html lang="de">' in html
