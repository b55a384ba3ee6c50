"""What people check rows with now: a Python loop, pandera row by row, great-expectations.

Each is given the same file and the same row rules, as far as it can hold rows to them, and written
as its users write it. The texts of the rules are the product's own, so that all look for the same.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.rows.recognition import recognise
from schemas.rows.row import ROLES, Conversation, SourceRow
from schemas.rule_ids import RowRule
from schemas.rules._text_rules import TEXT_RULES, describe_text
from schemas.rules._tool_rules import tool_problems, weight_problems
from schemas.rules.check_rows import LEGAL_STEPS
from schemas.texts.mojibake import MOJIBAKE_HINT
from schemas.texts.secrets import SECRET_HINT
from schemas.texts.special_markers import special_marker_hint

TURN_ROLES = ("user", "assistant", "tool")
CONTROL_PATTERN = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)"
PLACEHOLDER_PATTERN = (
    r"\{\{[^{}\n]{1,60}\}\}|<(?:your|insert) [^<>\n]{1,40}>|\[(?:insert|your) [^\[\]\n]{1,60}\]"
)
ROLES_PATTERN = r"^(?:(?:system|developer),)?user,assistant(?:,user,assistant)*$"


def python_loop(path: Path) -> dict[str, Any]:
    """Check rows against every row rule in one plain loop.

    Args:
        path: JSON lines.

    Returns:
        `seconds`, `n_rows` and `n_broken`, the rows that break each rule.
    """
    started = time.perf_counter()
    n_broken: Counter[str] = Counter()
    n_rows, first_format = 0, None
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            n_rows += 1
            try:
                row = json.loads(line)
            except ValueError:
                n_broken[RowRule.UNPARSEABLE_LINE] += 1
                continue
            found, blank_turns, violations = recognise(SourceRow(path.name, number, row))
            broken = {violation.rule for violation in violations}
            if found:
                first_format = first_format or found.format
                if found.format != first_format:
                    broken.add(RowRule.MIXED_FORMAT)
                broken.update(message_problems(found, blank_turns))
            n_broken.update(map(str, broken))
    return _timed(started, n_rows, n_broken=dict(sorted(n_broken.items())))


def message_problems(found: Conversation, blank_turns: frozenset[int]) -> Iterator[RowRule]:
    """Find what the messages of a row break.

    Args:
        found: The row.
        blank_turns: Turns that another rule judges already.

    Yields:
        Rules; one may come more than once.
    """
    messages = found.messages
    if not all(isinstance(message, dict) for message in messages):
        yield RowRule.MESSAGE_NOT_OBJECT
        if not any(isinstance(each, dict) and each.get("role") == "assistant" for each in messages):
            yield RowRule.NO_ASSISTANT_TURN
        return
    yield from order_problems([message.get("role") for message in messages])
    for turn, message in enumerate(messages):
        content = message.get("content")
        is_call = content in (None, "") and message.get("tool_calls")
        if turn not in blank_turns and not is_call:
            yield from content_problems(content)
    if found.tools is not None or any(len(message) != 2 for message in messages):
        yield from (rule for rule, _ in tool_problems(messages, found.tools))
        yield from (rule for rule, _ in weight_problems(messages))


def order_problems(roles: list[Any]) -> Iterator[RowRule]:
    """Find what is wrong with who speaks after whom.

    Args:
        roles: Of each message.

    Yields:
        Rules; one may come more than once.
    """
    before = "start"
    for turn, role in enumerate(roles):
        if role not in ROLES:
            yield RowRule.UNKNOWN_ROLE
        elif role not in TURN_ROLES and turn:
            yield RowRule.SYSTEM_NOT_FIRST
        elif role in TURN_ROLES:
            if f"{before}>{role}" not in LEGAL_STEPS:
                yield RowRule.ROLES_NOT_ALTERNATING
            before = role
    if "assistant" not in roles:
        yield RowRule.NO_ASSISTANT_TURN
    elif roles[-1] != "assistant":
        yield RowRule.LAST_TURN_NOT_ASSISTANT


def content_problems(content: Any) -> Iterator[RowRule]:
    """Find what the content of one message breaks.

    Args:
        content: Of any kind.

    Yields:
        Rules.
    """
    if content is None:
        yield RowRule.CONTENT_MISSING
    elif not isinstance(content, str):
        yield RowRule.CONTENT_NOT_TEXT
    elif not content.strip():
        yield RowRule.CONTENT_EMPTY
    else:
        is_ascii = content.isascii()
        for rule in TEXT_RULES:
            if is_ascii and rule == RowRule.ENCODING_DAMAGE:
                continue
            if describe_text(rule, content):
                yield rule


def pandera_row_by_row(path: Path, n_rows: int) -> dict[str, Any]:
    """Validate a frame of each row's messages against one schema; few rows, since it takes long.

    Args:
        path: JSON lines.
        n_rows: How many rows to look at.

    Returns:
        `seconds`, without the import, for `n_rows`, and `n_bad_rows`.
    """
    import pandas
    import pandera.pandas as pandera
    from pandera.errors import SchemaErrors

    def in_order(frame: Any) -> bool:
        roles = ["start", *(role for role in frame["role"] if role in TURN_ROLES)]
        return all(f"{a}>{b}" in LEGAL_STEPS for a, b in pairwise(roles))

    def finds_nothing(rule: RowRule) -> Any:
        return pandera.Check(lambda text: not describe_text(rule, text), element_wise=True)

    schema = pandera.DataFrameSchema(
        {
            "role": pandera.Column(str, pandera.Check.isin(ROLES)),
            "content": pandera.Column(
                str, [pandera.Check.str_matches(r"\s*\S"), *map(finds_nothing, TEXT_RULES)]
            ),
        },
        checks=[
            pandera.Check(in_order),
            pandera.Check(lambda frame: frame["role"].iloc[-1] == "assistant"),
        ],
    )
    rows = [row["messages"] for row in first_rows(path, n_rows)]
    n_bad_rows = 0
    started = time.perf_counter()
    for row in rows:
        try:
            schema.validate(pandas.DataFrame(row), lazy=True)
        except SchemaErrors:
            n_bad_rows += 1
    return _timed(started, len(rows), n_bad_rows=n_bad_rows)


def raw_great_expectations(path: Path) -> dict[str, Any]:
    """Check the raw frame with great-expectations, with rules as sets and regular expressions.

    It cannot look into a list of messages, so roles and contents are first joined to one text a
    row, as its users do; tool calls and weights are not looked at.

    Args:
        path: JSON lines.

    Returns:
        `seconds`, the import and the reading included, `n_rows` and `n_broken` by expectation.
    """
    started = time.perf_counter()
    import great_expectations
    import pandas

    kinds = great_expectations.expectations
    frame = pandas.read_json(path, lines=True)
    frame["roles"] = [",".join(str(each["role"]) for each in row) for row in frame["messages"]]
    frame["text"] = ["\n".join(str(each["content"]) for each in row) for row in frame["messages"]]
    frame["shortest"] = [
        min(len(each["content"].strip()) for each in row) for row in frame["messages"]
    ]
    context = great_expectations.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("rows")
    whole = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("rows")
    suite = great_expectations.ExpectationSuite(
        name="rows",
        expectations=[
            kinds.ExpectColumnValuesToNotBeNull(column="messages"),
            kinds.ExpectColumnValuesToMatchRegex(column="roles", regex=ROLES_PATTERN),
            kinds.ExpectColumnValuesToBeBetween(column="shortest", min_value=1),
            *(
                kinds.ExpectColumnValuesToNotMatchRegex(column="text", regex=expression)
                for expression in (
                    CONTROL_PATTERN,
                    f"[\ufffd-\uffff\ufeff]|{MOJIBAKE_HINT}",
                    special_marker_hint(),
                    PLACEHOLDER_PATTERN,
                    SECRET_HINT,
                )
            ),
        ],
    )
    found = whole.get_batch(batch_parameters={"dataframe": frame}).validate(suite)
    n_broken = [int(each.result["unexpected_count"]) for each in found.results]
    return _timed(started, len(frame), n_broken=n_broken)


def first_rows(path: Path, n_rows: int) -> list[dict[str, Any]]:
    """Read the first rows of a file.

    Args:
        path: JSON lines.
        n_rows: How many, at most.

    Returns:
        The rows.
    """
    with path.open("rb") as lines:
        return [json.loads(line) for _, line in zip(range(n_rows), lines, strict=False)]


def _timed(started: float, n_rows: int, **found: Any) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - started, "n_rows": n_rows, **found}
