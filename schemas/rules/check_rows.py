"""Check row rules: pandera validates all messages of a block of rows at once.

To add a rule on messages: an id in `RowRule`, its definition in `schemas/rules/row_rules.py` and a check
in `message_schema`, with a column in `message_frame.py` if it needs one. Rules on the shape of a
row are in `recognise`, rules on texts in `schemas/rules/_text_rules.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError
from schemas.rows.plain_rows import Rows
from schemas.rows.recognised_rows import RecognisedRows, recognise_rows
from schemas.rows.recognition import Recognised
from schemas.rows.row import ROLES, Conversation, RowFormat, SourceRow
from schemas.rule_ids import RowRule, Severity, Violation
from schemas.rules._descriptions import describe_message
from schemas.rules._layout import Layout, lay_out
from schemas.rules._message_frame import CALL_RULES, MessageFrame, message_frame
from schemas.rules._text_context import in_context
from schemas.rules._text_rules import TEXT_RULES, describe_text
from schemas.texts.damage import is_empty_input

if TYPE_CHECKING:
    import polars

LEGAL_STEPS = (
    "start>user",
    "user>assistant",
    "assistant>user",
    "assistant>tool",
    "tool>tool",
    "tool>assistant",
)
"""Legal pairs of turns, after an opening system or developer message."""
MOST_DESCRIBED = 5
"""Rows of a block whose warnings are described."""


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row with everything that is wrong with it; rules that are off are not checked."""

    source: SourceRow
    conversation: Conversation | None
    """None when a blocking rule is broken."""
    format: RowFormat | None
    violations: tuple[Violation, ...]


@dataclass
class CheckedBlock:
    """Rows that were checked together; iterating yields each with what it breaks."""

    rows: Rows
    recognised: RecognisedRows
    layout: Layout
    """Roles and contents of all their messages."""
    frame: polars.DataFrame
    """The same as a flat frame, see `message_frame`."""
    violations: dict[int, tuple[Violation, ...]] = field(default_factory=dict)
    """Row number to what it breaks; without the rows that break nothing."""
    blocked: set[int] = field(default_factory=set)
    """Numbers of the rows that break a blocking rule."""

    def __iter__(self) -> Iterator[CheckedRow]:
        """Yield the rows in order."""
        for number, source in enumerate(self.rows):
            found = self.recognised[number][0]
            yield CheckedRow(
                source,
                None if number in self.blocked else found,
                found.format if found else None,
                self.violations.get(number, ()),
            )


def check_rows(
    rows: Rows | Sequence[SourceRow],
    severities: Mapping[RowRule, Severity],
    first_format: RowFormat | None = None,
    special_tokens: Sequence[str] = (),
) -> CheckedBlock:
    """Check a block of rows against every row rule that is not off.

    Args:
        rows: The rows.
        severities: From `row_severities`.
        first_format: Format of the first row of the dataset, if that is in an earlier block.
        special_tokens: Of the model, in addition to the known markers of model families.

    Returns:
        The rows, each with what it breaks and its conversation.
    """
    rows = rows if isinstance(rows, Rows) else Rows.of(rows)
    recognised = recognise_rows(rows)
    broken = _shape_violations(recognised, first_format)
    asked = [rule for rule, severity in severities.items() if severity != Severity.OFF]
    layout = lay_out(recognised)
    frame = in_context(message_frame(layout, recognised, asked, special_tokens))
    found = _check_messages(frame, recognised, severities, special_tokens) if asked else ()
    for number, violation in (*found, *_empty_inputs(recognised)):
        if all(found.rule != violation.rule for found in broken.get(number, ())):
            broken.setdefault(number, []).append(violation)
    block = CheckedBlock(rows, recognised, layout, frame.frame)
    for number, violations in broken.items():
        kept = tuple(found for found in violations if severities[found.rule] != Severity.OFF)
        if kept:
            block.violations[number] = kept
        if any(severities[found.rule] == Severity.BLOCK for found in kept):
            block.blocked.add(number)
    return block


def _shape_violations(
    recognised: RecognisedRows, first_format: RowFormat | None
) -> dict[int, list[Violation]]:
    """Collect what the shape of rows breaks, including a format other than the first."""
    expected = first_format or next((found.format for found, _, _ in recognised if found), None)
    broken: dict[int, list[Violation]] = {}
    looked_at: Iterable[tuple[int, Recognised]] = enumerate(recognised)
    if expected == RowFormat.MESSAGES:
        looked_at = recognised.others.items()
    for number, (found, _, violations) in looked_at:
        if violations:
            broken[number] = list(violations)
        if found is not None and found.format is not expected:
            detail = f"{found.format}, the first row is {expected}"
            broken.setdefault(number, []).append(Violation(RowRule.MIXED_FORMAT, detail))
    return broken


def _empty_inputs(recognised: RecognisedRows) -> Iterator[tuple[int, Violation]]:
    """Find Alpaca rows whose input names an empty cell; it is pasted behind the instruction."""
    for number, (found, _, _) in recognised.others.items():
        if found is not None and found.format is RowFormat.ALPACA:
            value = recognised.rows[number].row.get("input")
            if is_empty_input(value):
                yield number, Violation(RowRule.MISSING_VALUE_TEXT, f"{value.strip()} in input")


def require_pandera() -> None:
    """Refuse to continue if pandera would let everything pass.

    Raises:
        ConfigError: pandera's validation is switched off.
    """
    from pandera.config import get_config_context

    if not get_config_context().validation_enabled:
        raise ConfigError(
            "pandera's validation is switched off, so rows would pass unchecked",
            where="environment variable PANDERA_VALIDATION_ENABLED",
            expected="True or unset",
            got="False",
            fix="unset PANDERA_VALIDATION_ENABLED and run again",
        )


def _check_messages(
    messages: MessageFrame,
    recognised: RecognisedRows,
    severities: Mapping[RowRule, Severity],
    special_tokens: Sequence[str],
) -> list[tuple[int, Violation]]:
    """Run pandera over all messages; return the first violation of each row and rule."""
    import polars
    from pandera.config import ValidationDepth, config_context
    from pandera.errors import SchemaErrors

    require_pandera()
    frame = messages.frame
    if frame.is_empty():
        return []
    found: dict[tuple[int, RowRule], Violation] = {}
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            # A check takes 2 ms even where no row breaks it.
            checked = frame.drop([rule for rule in _flags(frame.columns) if not frame[rule].any()])
            message_schema(tuple(checked.columns)).validate(checked, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            rule, column = RowRule(error.check.name), str(error.schema.name)
            passed = error.check_output["check_output"].fill_null(value=True)
            failed = frame.filter(~passed).unique("row", keep="first", maintain_order=True)
            # The columns again under other names: one of them may be that of the rule.
            looked_at = failed.select(
                "row", "turn", polars.col(column).alias("value"), polars.col("text").alias("said")
            )
            for number, (row, turn, value, text) in enumerate(looked_at.iter_rows()):
                if rule in TEXT_RULES and (row, rule) not in messages.details:
                    # Describing takes long, so warnings are described for the first rows only.
                    is_shown = severities[rule] == Severity.BLOCK or number < MOST_DESCRIBED
                    seen = describe_text(rule, text, special_tokens) if is_shown else "found"
                    detail = f"{seen} in message {turn + 1}"
                else:
                    detail = messages.details.get((row, rule)) or _detail(
                        rule, recognised[row][0], turn, value
                    )
                found[row, rule] = Violation(rule, detail)
    return [(row, violation) for (row, _), violation in found.items()]


@lru_cache(maxsize=64)
def message_schema(columns: tuple[str, ...]) -> Any:
    """Define the message rules on the flat frame, as a pandera schema with checks named by rule id.

    A rule whose flag is not among the columns is off. Null means that a check does not apply.
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
            **{str(rule): column(bool, check.eq(False, name=rule)) for rule in _flags(columns)},
        }
    )


def _flags(columns: Collection[str]) -> list[RowRule]:
    """List the rules whose flag is among the columns."""
    return [rule for rule in (*sorted(TEXT_RULES), *CALL_RULES) if rule in columns]


def _detail(rule: RowRule, conversation: Conversation | None, turn: int, value: Any) -> str:
    if rule is RowRule.ROLES_NOT_ALTERNATING or conversation is None:
        return str(value).replace("start>", "begins with ").replace(">", ", ")
    return describe_message(rule, conversation.messages, turn)
