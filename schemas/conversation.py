"""Row rules: what one row must look like, and what is wrong with it.

To add a rule on messages: an id in `RowRule`, its definition in `ROW_RULES` and a check in
`message_schema`, with a column in `message_frame.py` if it needs one. Rules on the shape of a row
are found by `recognise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from schemas.errors import ConfigError
from schemas.message_frame import COLUMNS, flatten_messages
from schemas.recognition import Violation, recognise
from schemas.rows import Conversation, RowFormat, SourceRow
from schemas.rules import RowRule, RuleSetting, Severity

ROLES = ("system", "user", "assistant", "tool", "developer")
LEGAL_STEPS = (
    "start>user",
    "user>assistant",
    "assistant>user",
    "assistant>tool",
    "tool>tool",
    "tool>assistant",
)
"""Which turn may follow which, after an opening system or developer message."""


@dataclass(frozen=True)
class RowRuleDefinition:
    """One row rule; `is_structural`: a row that breaks it yields no conversation to keep."""

    meaning: str
    fix: str
    severity: Severity = Severity.BLOCK
    is_structural: bool = False


ROW_RULES: dict[RowRule, RowRuleDefinition] = {
    RowRule.UNPARSEABLE_LINE: RowRuleDefinition(
        "The line cannot be read in the file's format.",
        "write one valid JSON object a line, in UTF-8",
        is_structural=True,
    ),
    RowRule.NOT_AN_OBJECT: RowRuleDefinition(
        "The row is not an object with named fields.",
        'write each row as an object, e.g. {"prompt": "…", "completion": "…"}',
        is_structural=True,
    ),
    RowRule.UNKNOWN_FORMAT: RowRuleDefinition(
        "The row has neither messages nor prompt and completion.",
        "name the columns, e.g. data.source.columns={prompt: question, completion: answer}",
        is_structural=True,
    ),
    RowRule.MIXED_FORMAT: RowRuleDefinition(
        "The row has the fields of both formats, or another format than the first row.",
        "write all rows in one format; where both are present messages counts",
        severity=Severity.WARN,
    ),
    RowRule.MESSAGES_EMPTY: RowRuleDefinition(
        "The list of messages is empty.", "drop these rows", is_structural=True
    ),
    RowRule.MESSAGE_NOT_OBJECT: RowRuleDefinition(
        "A message is not an object with role and content.",
        'write each message as {"role": "user", "content": "…"}',
        is_structural=True,
    ),
    RowRule.UNKNOWN_ROLE: RowRuleDefinition(
        f"A message's role is none of {', '.join(ROLES)}.",
        "rename the roles, e.g. human to user and gpt to assistant",
    ),
    RowRule.CONTENT_MISSING: RowRuleDefinition(
        "A message has no content (and calls no tool).", "fill in the content or drop these rows"
    ),
    RowRule.CONTENT_EMPTY: RowRuleDefinition(
        "A message's content is empty or white space.", "fill in the content or drop these rows"
    ),
    RowRule.CONTENT_NOT_TEXT: RowRuleDefinition(
        "A message's content is not a text.", "write the content as one string"
    ),
    RowRule.SYSTEM_NOT_FIRST: RowRuleDefinition(
        "A system or developer message stands after the first turn.",
        "move it to the front or drop it",
    ),
    RowRule.ROLES_NOT_ALTERNATING: RowRuleDefinition(
        "User and assistant do not take turns, beginning with the user.",
        "merge or drop these rows",
    ),
    RowRule.NO_ASSISTANT_TURN: RowRuleDefinition(
        "There is no assistant turn, so nothing to learn.", "add the answer or drop these rows"
    ),
    RowRule.LAST_TURN_NOT_ASSISTANT: RowRuleDefinition(
        "The conversation goes on after the last assistant turn.",
        "cut the conversation after its last answer",
    ),
    RowRule.PROMPT_EMPTY: RowRuleDefinition(
        "The prompt is empty.", "fill in the prompt or drop these rows"
    ),
    RowRule.COMPLETION_EMPTY: RowRuleDefinition(
        "The completion is empty.", "fill in the completion or drop these rows"
    ),
}


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row with all that is wrong with it; rules that are off are not looked at."""

    source: SourceRow
    conversation: Conversation | None
    """None when a blocking rule is broken."""
    format: RowFormat | None
    violations: tuple[Violation, ...]


def row_severities(settings: Mapping[RowRule, RuleSetting]) -> dict[RowRule, Severity]:
    """Complete the configured severities with the rules' defaults.

    Args:
        settings: What the configuration names.

    Returns:
        A severity for every rule.

    Raises:
        ConfigError: A rule without which there is no conversation was loosened.
    """
    severities = {rule: definition.severity for rule, definition in ROW_RULES.items()}
    for rule, setting in settings.items():
        if setting.severity is None:
            continue
        if ROW_RULES[rule].is_structural and setting.severity != Severity.BLOCK:
            raise ConfigError(
                f"rule {rule} cannot be set to {setting.severity}: such a row holds no conversation",
                where=f"data.rules.{rule}.severity",
                expected="block",
                got=setting.severity,
                fix="leave the rule at block; the rows are set aside in quarantine.jsonl",
            )
        severities[rule] = setting.severity
    return severities


def check_rows(
    rows: Sequence[SourceRow],
    severities: Mapping[RowRule, Severity],
    first_format: RowFormat | None = None,
) -> list[CheckedRow]:
    """Hold a batch of rows to every row rule that is not off.

    Args:
        rows: The rows.
        severities: What `row_severities` gave.
        first_format: Format of the set's first row, when these are not the first.

    Returns:
        The rows in order, each with what it breaks and, unless that blocks it, its conversation.

    Raises:
        ConfigError: pandera is switched off, so the rules would not be looked at.
    """
    recognised = [recognise(row) for row in rows]
    expected = first_format or next((found.format for found, _, _ in recognised if found), None)
    broken = [list(violations) for _, _, violations in recognised]
    for number, (found, _, _) in enumerate(recognised):
        if found and found.format != expected:
            detail = f"{found.format}, the first row is {expected}"
            broken[number].append(Violation(RowRule.MIXED_FORMAT, detail))
    conversations = {n: (found, plain) for n, (found, plain, _) in enumerate(recognised) if found}
    for number, violation in _check_messages(conversations):
        broken[number].append(violation)
    checked = []
    for number, (found, _, _) in enumerate(recognised):
        violations = tuple(v for v in broken[number] if severities[v.rule] != Severity.OFF)
        is_blocked = any(severities[v.rule] == Severity.BLOCK for v in violations)
        checked.append(
            CheckedRow(
                rows[number],
                None if is_blocked else found,
                found.format if found else None,
                violations,
            )
        )
    return checked


def _check_messages(
    conversations: Mapping[int, tuple[Conversation, frozenset[int]]],
) -> list[tuple[int, Violation]]:
    """Run pandera over all messages at once; one violation a row and rule, its first."""
    import polars
    from pandera.config import ValidationDepth, config_context, get_config_context
    from pandera.errors import SchemaErrors

    if not get_config_context().validation_enabled:
        raise ConfigError(
            "pandera's validation is switched off, so rows would pass unchecked",
            where="environment variable PANDERA_VALIDATION_ENABLED",
            expected="True or unset",
            got="False",
            fix="unset PANDERA_VALIDATION_ENABLED and run again",
        )
    lines = [
        line for n, (c, plain) in conversations.items() for line in flatten_messages(n, c, plain)
    ]
    if not lines:
        return []
    frame = polars.DataFrame(lines, schema=COLUMNS, orient="row")
    found: dict[tuple[int, RowRule], Violation] = {}
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            message_schema().validate(frame, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            rule, column = RowRule(error.check.name), str(error.schema.name)
            failed = frame.filter(~error.check_output["check_output"].fill_null(value=True))
            for row, turn, value in failed.select("row", "turn", column).iter_rows():
                violation = Violation(rule, _detail(column, turn, value))
                found.setdefault((row, rule), violation)
    return [(row, violation) for (row, _), violation in found.items()]


@cache
def message_schema() -> Any:
    """Define the message rules on the flat frame: one line a message, null where not applicable.

    Returns:
        A pandera (polars) schema whose checks are named by the rules' ids.
    """
    import pandera.polars as pandera

    def column(kind: type, *checks: Any) -> Any:
        return pandera.Column(kind, list(checks), nullable=True)

    check = pandera.Check
    return pandera.DataFrameSchema(
        {
            "is_object": column(bool, check.eq(True, name=RowRule.MESSAGE_NOT_OBJECT)),
            "role": column(str, check.isin(ROLES, name=RowRule.UNKNOWN_ROLE)),
            "content": column(
                str,
                check.ne("missing", name=RowRule.CONTENT_MISSING),
                check.ne("empty", name=RowRule.CONTENT_EMPTY),
                check.isin(("text", "missing", "empty"), name=RowRule.CONTENT_NOT_TEXT),
            ),
            "step": column(str, check.isin(LEGAL_STEPS, name=RowRule.ROLES_NOT_ALTERNATING)),
            "opening_turn": column(int, check.eq(0, name=RowRule.SYSTEM_NOT_FIRST)),
            "closing": column(str, check.eq("assistant", name=RowRule.LAST_TURN_NOT_ASSISTANT)),
            "n_assistant_turns": column(int, check.ge(1, name=RowRule.NO_ASSISTANT_TURN)),
        }
    )


def _detail(column: str, turn: int, value: Any) -> str:
    """Say in a few words what was seen."""
    if column == "step":
        return str(value).replace("start>", "begins with ").replace(">", ", ")
    if column == "n_assistant_turns":
        return "no assistant turn"
    if column == "opening_turn":
        return f"message {turn + 1}"
    if column == "closing":
        return f"ends with {value}"
    if column == "role":
        return f"{value} in message {turn + 1}"
    return f"message {turn + 1}"
