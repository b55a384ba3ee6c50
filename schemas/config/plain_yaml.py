"""YAML as people mean it: `off` is a word, `5e-4` a number, a repeated key an error."""

from __future__ import annotations

import math
import re
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    NodeEvent,
)
from ruamel.yaml.nodes import MappingNode, Node

YamlError = YAMLError
"""What `parse_yaml` raises; `problem` and `problem_mark` say what and where, if the parser knows."""


MOST_LEVELS = 50
"""Of nesting in a configuration; Python's own stack ends near 300 levels of YAML."""
MOST_VALUES = 100_000
"""In a document whose aliases are written out: ten lines of them can make a thousand million."""


class _Constructor(SafeConstructor):
    """Dates stay text, as in YAML's core schema."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _parser() -> Any:
    parser = YAML(typ="safe", pure=True)
    parser.Constructor = _Constructor
    parser.version = (1, 2)
    return parser


_PLAIN_TEXT = re.compile(r"(?:\./|/)?[A-Za-z][A-Za-z0-9_./-]*")
_OLD_WORD = re.compile(r"(?:y|yes|n|no|on|off)\Z", re.IGNORECASE)
"""Booleans for a parser of YAML 1.1."""


def parse_yaml(text: str) -> Any:
    """Parse one YAML document.

    Args:
        text: The document.

    Returns:
        Plain Python values; None for an empty document.

    Raises:
        YAMLError: The text is not YAML, a mapping has a key twice or an anchor is there twice, it
            is nested too deeply, or its aliases refer to themselves or make it too large.
    """
    _check_size(text)
    try:
        return _parser().load(text)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # ruamel.yaml raises these for values that their tag does not fit, such as `!!int abc`.
        raise YAMLError(f"a value does not fit its tag: {error}") from error


def _check_size(text: str) -> None:
    """Refuse a document that would not end once its aliases are followed."""
    size = _Size()
    for event in _parser().parse(text):
        size.add(event)
        if len(size.open_nodes) > MOST_LEVELS:
            raise _refused(f"nested more than {MOST_LEVELS} levels", event.start_mark)
        if size.n_values > MOST_VALUES:
            raise _refused(f"more than {MOST_VALUES:,} values", event.start_mark)


class _Size:
    """Number of values of a document whose aliases are written out, counted without doing so."""

    def __init__(self) -> None:
        self.n_values = 0
        self.open_nodes: list[tuple[str | None, int]] = []
        """Anchor of each list and mapping around, and the values before it."""
        self._sizes: dict[str, int | None] = {}
        """Values of what has an anchor; None as long as it is open."""

    def add(self, event: Event) -> None:
        """Count what the parser found next."""
        if isinstance(event, AliasEvent):
            size = self._sizes.get(event.anchor, 1)
            if size is None:
                raise _refused("an alias is part of what it refers to", event.start_mark)
            self.n_values += size
        elif isinstance(event, CollectionEndEvent):
            anchor, n_before = self.open_nodes.pop()
            if anchor:
                self._sizes[anchor] = self.n_values - n_before
        elif isinstance(event, NodeEvent):
            self._add_node(event, isinstance(event, CollectionStartEvent))

    def _add_node(self, event: NodeEvent, has_more: bool) -> None:
        if event.anchor in self._sizes:
            raise _refused(f"the anchor &{event.anchor} is there twice", event.start_mark)
        if event.anchor:
            self._sizes[event.anchor] = None if has_more else 1
        if has_more:
            self.open_nodes.append((event.anchor, self.n_values))
        self.n_values += 1


def _refused(problem: str, mark: StreamMark) -> YAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=mark)


def yaml_text(value: str) -> str:
    """Write a text as a YAML scalar of one line, in quotes where this or any parser needs them."""
    if _PLAIN_TEXT.fullmatch(value) and parse_yaml(value) == value and not _OLD_WORD.match(value):
        return value
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_style, writer.allow_unicode, writer.width = '"', True, math.inf
    quoted = StringIO()
    writer.dump(value, quoted)
    return quoted.getvalue().removesuffix("\n")


def key_lines(text: str) -> dict[str, int]:
    """Return the line, counted from 1, of each dotted key of a valid YAML document."""
    lines: dict[str, int] = {}
    _walk(_parser().compose(text), "", lines)
    return lines


def _walk(node: Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            lines[name] = key.start_mark.line + 1
            _walk(value, f"{name}.", lines)
