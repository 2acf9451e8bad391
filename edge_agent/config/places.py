"""Parses YAML text to plain data with the line and column of each value. Leaves out what the keys mean.

Scalars stay text, because YAML does not know what `name: NO`, `"0123"` or `1e-3` should be: the country code NO is not
false, 0123 is not 83, and 12:30 is not 750.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from edge_agent.settings.section import Loc

MAX_DEPTH = 20
MAX_NODES = 20_000  # a config of a hundred stations has about 3000; aliases of aliases (a "YAML bomb") have billions


class Place(NamedTuple):
    """A place in the text; both are counted from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """One error: its place in the text, its location in the data, and what is wrong."""

    place: Place
    loc: Loc
    text: str


@dataclass(frozen=True)
class Document:
    """A parsed YAML document.

    data: dicts, lists, str, and None for an empty value; None with a syntax error. values, keys: the place of each value,
    and of its key. problems: what is wrong with the YAML itself.
    """

    data: Any = None
    values: Mapping[Loc, Place] = field(default_factory=dict)
    keys: Mapping[Loc, Place] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place_of(self, loc: Loc, *, of_key: bool = False) -> Place:
        """Return the place of the value at `loc`, or of the nearest one around it. of_key: of its key instead."""
        if of_key and loc in self.keys:
            return self.keys[loc]
        while loc and loc not in self.values:
            loc = loc[:-1]
        return self.values.get(loc, Place(1, 1))


def parse(text: str) -> Document:
    """Parse one YAML document; never raises on bad text, see `Document.problems`."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:  # a character that YAML does not allow, anywhere in the text
        return _failed(_place_of_offset(text, error.position), f"has the character {chr(error.character)!r}: remove it")
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        return _failed(_place(mark), f"is not valid YAML: {_explain(error)}")
    except (ValueError, OverflowError):  # PyYAML passes "\UFFFFFFFF" and the like to chr() and int() unchecked
        return _failed(_place(loader.get_mark()), "is not valid YAML: a number or character code is out of range")
    if node is None:
        return Document()
    builder = _Builder()
    data = builder.build(node, ())
    if builder.overflow:
        return Document(problems=(builder.overflow,))
    return Document(data, builder.values, builder.keys, tuple(builder.problems))


def shown(loc: Loc) -> str:
    """Return a location as `stations[1].fps`, with unusual keys in quotes."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if re.fullmatch(r"[\w-]+", step) else repr(step))
    return text


class _Loader(yaml.SafeLoader):
    """Composes nodes to a limited depth, as PyYAML recurses for each level."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"nested deeper than {MAX_DEPTH} levels", self.peek_event().start_mark
            )
        self._depth += 1
        if not self.check_event(yaml.AliasEvent):
            # YAML allows an anchor to be defined again; PyYAML does not.
            self.anchors.pop(self.peek_event().anchor, None)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Builder:
    """Turns nodes into data. Aliases are followed, within limits, as stations may share settings by them."""

    def __init__(self) -> None:
        self.values: dict[Loc, Place] = {}
        self.keys: dict[Loc, Place] = {}
        self.problems: list[Problem] = []
        self.overflow: Problem | None = None

    def build(self, node: yaml.Node, loc: Loc) -> Any:
        if len(self.values) >= MAX_NODES or len(loc) > MAX_DEPTH:
            what = f"holds more than {MAX_NODES} values or {MAX_DEPTH} levels, aliases included: write less"
            self.overflow = self.overflow or Problem(_place(node.start_mark), (), what)
            return None
        self.values[loc] = _place(node.start_mark)
        if not _is_ordinary(node.tag):
            self._find(node, loc, f"has the tag {node.tag!r}: tags are not supported, remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*loc, i)) for i, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if isinstance(node, yaml.ScalarNode) and node.style is None and _QUOTED.search(node.value):
            self._find(node, loc, "is in typographic quotes, which YAML does not know: write plain ' or \", or none")
        if _UNPRINTABLE.search(node.value):
            self._find(node, loc, "has a line break or a control character in its text: remove it")
        return node.value

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in self._own_pairs(node, loc):
            at = (*loc, key.value)
            if key.value in data:
                first = self.keys[at].line
                self._find(key, at, f"is given twice, first in line {first}: remove one")
                continue
            self.keys[at] = _place(key.start_mark)
            data[key.value] = self.build(value, at)
        for key, value in self._merged_pairs(node, loc, {id(node)}):
            if key.value not in data:
                at = (*loc, key.value)
                self.keys[at] = _place(key.start_mark)
                data[key.value] = self.build(value, at)
        return data

    def _own_pairs(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if _is_merge(key):
                continue
            if not isinstance(key, yaml.ScalarNode) or _UNPRINTABLE.search(key.value):
                self._find(key, loc, "has a key that is not a plain word")
                continue
            yield key, value

    def _merged_pairs(
        self, node: yaml.MappingNode, loc: Loc, seen: set[int]
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield the pairs that `<<: *other` merges; the mapping's own pairs, and earlier ones, take precedence."""
        for key, value in node.value:
            if not _is_merge(key):
                continue
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(other, yaml.MappingNode):
                    self._find(key, (*loc, "<<"), "wants the alias of a mapping, such as *other")
                elif id(other) not in seen:  # a second time adds nothing, and might recurse without end
                    seen.add(id(other))
                    yield from self._own_pairs(other, loc)
                    yield from self._merged_pairs(other, loc, seen)

    def _find(self, node: yaml.Node, loc: Loc, text: str) -> None:
        self.problems.append(Problem(_place(node.start_mark), loc, text))


_QUOTED = re.compile("^[\u2018-\u201f\u2039\u203a\u00ab\u00bb]|[\u201c-\u201f\u00ab\u00bb]$")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ORDINARY_TAGS = ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")


def _is_ordinary(tag: str) -> bool:
    return tag.removeprefix("tag:yaml.org,2002:") in _ORDINARY_TAGS


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.tag == "tag:yaml.org,2002:merge")


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _place_of_offset(text: str, offset: int) -> Place:
    before = text[:offset]
    return Place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def _failed(place: Place, text: str) -> Document:
    return Document(problems=(Problem(place, (), text),))


# What to do about PyYAML's messages, by a part of their text.
_HINTS = {
    "\\t": "indent with spaces, not with tabs",
    "mapping values are not allowed": "put text that holds ': ' in quotes, and check the indentation",
    "expected <block end>": "check the indentation of this line against the lines above",
    "could not find expected ':'": "the line before lacks a ':', or a quote or bracket is not closed",
    "unknown escape character": "put Windows paths in 'single' quotes",
    "alias": "put text that begins with * in quotes",
    "anchor": "put text that begins with & in quotes",
    "cannot start any token": "put text that begins with this character in quotes",
    "expected ',' or": "a bracket is not closed, or a comma is missing",
    "unexpected end of stream": "a quote is not closed",
    "single document": "remove the line '---'",
}


def _explain(error: yaml.MarkedYAMLError) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    hint = next((hint for symptom, hint in _HINTS.items() if symptom in said), None)
    return f"{said}; {hint}" if hint else said
