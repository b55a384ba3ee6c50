"""YAML as people mean it: `off` is a word, `5e-4` a number, a repeated key an error."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.2 scalars: only true and false are booleans, dates stay text."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)

_PLAIN_TEXT = re.compile(r"(?:\./|/)?[A-Za-z][A-Za-z0-9_./-]*")


def parse_yaml(text: str) -> Any:
    """Parse one YAML document.

    Args:
        text: The document.

    Returns:
        Plain Python values; None for an empty document.

    Raises:
        yaml.YAMLError: The text is not YAML, or a mapping has a key twice.
    """
    node = yaml.compose(text, Loader=_PlainLoader)
    _refuse_repeated_keys(node, [])
    return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader


def yaml_text(value: str) -> str:
    """Write a text as a YAML scalar of one line, in quotes where this or any parser needs them."""
    if _PLAIN_TEXT.fullmatch(value) and parse_yaml(value) == yaml.safe_load(value) == value:
        return value
    quoted = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf)
    return str(quoted).removesuffix("\n")


def key_lines(text: str) -> dict[str, int]:
    """Return the line, counted from 1, of each dotted key of a valid YAML document."""
    lines: dict[str, int] = {}
    _walk(yaml.compose(text, Loader=_PlainLoader), "", lines)
    return lines


def _walk(node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            lines[name] = key.start_mark.line + 1
            _walk(value, f"{name}.", lines)


def _refuse_repeated_keys(node: yaml.Node | None, above: list[yaml.Node]) -> None:
    if node is None or any(node is other for other in above):
        return
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
            _refuse_repeated_keys(value, [*above, node])
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, [*above, node])
