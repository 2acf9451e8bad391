"""Turns pydantic's errors into sentences for the person who edits config.yaml, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from edge_agent.config.places import Document, Problem
from edge_agent.settings.section import Loc

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def problems_of(error: ValidationError, document: Document, root: type[BaseModel]) -> list[Problem]:
    """Return one problem for each validation error.

    Args:
        error: from validating `document.data`.
        document: the file.
        root: the class that it was validated as.
    """
    found = []
    for details in error.errors(include_url=False):
        loc = _file_location(details["loc"])
        about_key = details["type"] == "extra_forbidden" or details["input"] is None
        place = document.place_of(loc, of_key=about_key)
        found.append(Problem(place, loc, _sentence(details, root)))
    return found


def empty_values(document: Document) -> list[Problem]:
    """Return a problem for each key without a value: it could mean the default, nothing, or that a line is missing."""
    text = "is empty: give it a value, or remove the key"
    return [Problem(document.place_of(loc, of_key=True), loc, text) for loc in _empty_keys(document.data, ())]


def _file_location(loc: Loc) -> Loc:
    """Return the location in the file, which does not name the kind of a section."""
    return tuple(step for step in loc if not _is_kind(step))


def _is_kind(step: str | int) -> bool:
    """Return whether a step is the name of a class; pydantic adds it where a section may be of several kinds."""
    return isinstance(step, str) and step.endswith("Config") and step != "Config"


def _empty_keys(data: Any, loc: Loc) -> Iterator[Loc]:
    if data is None and loc:
        yield loc
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _empty_keys(value, (*loc, key))


def _sentence(details: ErrorDetails, root: type[BaseModel]) -> str:
    kind, loc, value = details["type"], details["loc"], details["input"]
    if kind == "wrong":
        return details["msg"]
    if kind == "extra_forbidden":
        return _unknown_key(root, loc)
    if kind == "missing":
        return _missing(root, loc)
    if value is None:
        return "is empty: give it a value, or remove the key"
    return f"is {_shown_value(value)}; {_wanted(details, root)}"


# What is wanted instead, by pydantic's type of error; the names in braces are from its context.
_WANTED = {
    "bool_parsing": "wants true or false",
    "bool_type": "wants true or false",
    "finite_number": "wants a number",
    "float_parsing": "wants a number",
    "float_type": "wants a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "wants a whole number",
    "int_parsing": "wants a whole number",
    "int_parsing_size": "wants a whole number",
    "int_type": "wants a whole number",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "wants {expected}",
    "path_type": "wants a path",
    "string_pattern_mismatch": "wants letters, digits, '-', '_' and '.' alone, not too many",
    "string_too_long": "wants text of at most {max_length} characters",
    "string_too_short": "wants some text",
    "string_type": "wants text",
    "too_long": "wants a point [x, y]",
    "tuple_type": "wants a list: [one, two]",
}


def _wanted(details: ErrorDetails, root: type[BaseModel]) -> str:
    kind, loc, value, context = details["type"], details["loc"], details["input"], details.get("ctx", {})
    if kind == "model_type":
        section = _section_at(root, loc)
        return "wants keys with values: " + ", ".join(section.model_fields if section else ())
    wanted = _WANTED[kind].format(**context) if kind in _WANTED else details["msg"]
    if kind == "literal_error":
        wanted += _literal_hint(value, context["expected"])
    elif kind == "float_parsing" and value.count(",") == 1:
        wanted += ", with a point instead of the comma"
    elif kind == "less_than_equal" and not {"ignore", "include", "roi"}.isdisjoint(loc):
        wanted += ": divide pixels by the picture's width (x) or height (y)"
    return wanted


def _shown_value(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, dict):
        return "a group of keys"
    return "a list" if isinstance(value, list) else repr(value)


# Common guesses that resemble none of the choices, or the wrong one.
_SYNONYMS = {"no": "none", "off": "none", "false": "none", "never": "none", "gpu": "cuda", "jpeg": "jpg"}
_SYNONYMS |= {
    "on": "all",
    "yes": "all",
    "true": "all",
    "always": "all",
    "float32": "fp32",
    "float16": "fp16",
    "half": "fp16",
}


def _literal_hint(value: Any, expected: str) -> str:
    import difflib

    if not isinstance(value, str):
        return ""
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    meant = _SYNONYMS.get(value.lower())
    if meant in choices:
        return f"; did you mean '{meant}'?"
    close = difflib.get_close_matches(value.lower(), choices, 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _unknown_key(root: type[BaseModel], loc: Loc) -> str:
    import difflib

    section = _section_at(root, loc[:-1])
    if section is None:
        return "unknown key"
    if elsewhere := _place_of_key(root, loc):
        return f"unknown key here; {elsewhere}"
    known = {key: key for key in section.model_fields}
    for name, field in section.model_fields.items():  # a key one level too high is a common mistake
        for below in _sections(field.annotation):
            for key in below.model_fields:
                known.setdefault(key, f"{name}: {{{key}: ...}}")
    close = difflib.get_close_matches(str(loc[-1]).lower(), known, 1)
    if close:
        return f"unknown key; did you mean '{known[close[0]]}'?"
    return f"unknown key; known here: {', '.join(section.model_fields)}"


def _place_of_key(root: type[BaseModel], loc: Loc) -> str | None:
    """Say where a key belongs that a section further out has; None if none has it."""
    key = str(loc[-1])
    for end in range(len(loc) - 2, -1, -1):
        if isinstance(loc[end], int) or _is_kind(loc[end]):
            continue  # the section around a list's item or a kind is that before it
        around = _section_at(root, loc[:end])
        if around is not None and key in around.model_fields:
            return f"{key} belongs beside {loc[end]}, not in it: indent it as {loc[end]} is"
    return None


def _missing(root: type[BaseModel], loc: Loc) -> str:
    if isinstance(loc[-1], int):
        return "is missing: a point is [x, y]"
    section = _section_at(root, loc[:-1])
    if section is None:
        return "is missing"
    examples = section.model_fields[str(loc[-1])].examples or []
    return "is missing" + "".join(f"; for example {loc[-1]}: {example}" for example in examples)


def _section_at(root: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """Return the section of the config at `loc`, or None."""
    section = root
    kinds: dict[str | int, type[BaseModel]] = {}
    for step in loc:
        if step in kinds:
            section = kinds[step]
        elif isinstance(step, str):
            field = section.model_fields.get(step)
            below = _sections(field.annotation) if field else []
            if not below:
                return None
            section, kinds = below[0], {one.__name__: one for one in below}
    return section


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections in an annotation such as `tuple[Station, ...]` or `Mqtt | None`."""
    parts = get_args(annotation)
    # In Python 3.10 tuple[Station, ...] is an instance of type, and issubclass refuses it: so its parts come first.
    if not parts and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if annotation.model_config.get("extra") == "forbid" else []
    return [section for part in parts for section in _sections(part)]
