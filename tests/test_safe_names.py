"""Texts from outside become names that are safe in folders, in topics and in config.yaml."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge_agent.commands.output import logging_to_stderr
from edge_agent.io.names import LONGEST, Lines, config_name, file_part, printable
from edge_agent.settings.values import Name

unhurried = settings(deadline=None, max_examples=200)


def test_a_part_number_keeps_what_a_file_name_may_hold() -> None:
    assert file_part("SN-0042.b") == "SN-0042.b"
    assert file_part("SN 42 / Prüfling") == "SN_42_Pr_fling"
    assert file_part("Prüfling 42", ascii_only=False) == "Prüfling_42"
    assert file_part("../../etc/passwd") == "_.._etc_passwd"
    assert file_part("...", "object") == "object"


@unhurried
@given(st.text())
def test_no_text_makes_a_file_name_that_leaves_its_folder_or_hides_in_it(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", file_part(text))
    assert len(file_part(text)) <= LONGEST
    assert not file_part(text, ascii_only=False).startswith(".")
    assert "/" not in file_part(text, ascii_only=False)


@unhurried
@given(st.text())
def test_the_name_that_an_error_suggests_is_itself_a_valid_name(text: str) -> None:
    assert TypeAdapter(Name).validate_python(config_name(text)) == config_name(text)


def test_a_name_can_neither_end_a_line_nor_turn_or_colour_it() -> None:
    assert printable("a.png\n2026-11-20 ERROR all is lost") == "a.png\\n2026-11-20 ERROR all is lost"
    assert printable("\x1b[2Ja\u202egnp.b\r\u2028\x85\udcff") == "\\x1b[2Ja\\u202egnp.b\\r\\u2028\\x85\\udcff"
    assert printable("Prüfling 42, 鉄, 🙂") == "Prüfling 42, 鉄, 🙂"


def test_a_log_line_is_one_line_whatever_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger()
    before = log.handlers[:]
    log.handlers.clear()
    try:
        logging_to_stderr(verbose=False).warning(
            "%s: %s (%d of %s)", Path("a\nERROR b"), OSError("\x1b[2J"), 3, Lines("x\ny")
        )
    finally:
        log.handlers[:] = before
    assert capsys.readouterr().err.splitlines()[0].endswith(" WARNING a\\nERROR b: \\x1b[2J (3 of x")
