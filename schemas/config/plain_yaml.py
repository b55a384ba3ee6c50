"""YAML as people mean it: `off` is a word, `5e-4` a number, a repeated key an error."""

from __future__ import annotations

import math
import re
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

YamlError = YAMLError
"""What `parse_yaml` raises; `problem` and `problem_mark` say what and where, if the parser knows."""


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
        YAMLError: The text is not YAML, or a mapping has a key twice.
    """
    return _parser().load(text)


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
