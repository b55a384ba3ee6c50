"""Ids, severities and results of the rules on rows and on the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from schemas.base import Record, Section


class Severity(StrEnum):
    """What a broken rule does: stop the run, only warn, or nothing because it is not checked."""

    BLOCK = "block"
    WARN = "warn"
    OFF = "off"


class DataGateMode(StrEnum):
    """Whether the data gate stops the run, only reports, or is not run."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


class Verdict(StrEnum):
    """Result of a rule or a gate."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


class RowRule(StrEnum):
    """Rules on one row, checked in `schemas/rules/check_rows.py`; a row can break several."""

    UNPARSEABLE_LINE = "unparseable_line"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_FORMAT = "unknown_format"
    PREFERENCE_ROW = "preference_row"
    UNPAIRED_PREFERENCE = "unpaired_preference"
    MIXED_FORMAT = "mixed_format"
    MESSAGES_EMPTY = "messages_empty"
    MESSAGE_NOT_OBJECT = "message_not_object"
    UNKNOWN_ROLE = "unknown_role"
    CONTENT_MISSING = "content_missing"
    CONTENT_EMPTY = "content_empty"
    CONTENT_NOT_TEXT = "content_not_text"
    SYSTEM_NOT_FIRST = "system_not_first"
    ROLES_NOT_ALTERNATING = "roles_not_alternating"
    NO_ASSISTANT_TURN = "no_assistant_turn"
    LAST_TURN_NOT_ASSISTANT = "last_turn_not_assistant"
    TOOL_CALL_INVALID = "tool_call_invalid"
    TOOL_RESULT_UNMATCHED = "tool_result_unmatched"
    PROMPT_EMPTY = "prompt_empty"
    COMPLETION_EMPTY = "completion_empty"
    WEIGHT_INVALID = "weight_invalid"
    NEEDS_MEDIA = "needs_media"
    SYSTEM_CONFLICT = "system_conflict"
    FIELD_NOT_USED = "field_not_used"
    CONTROL_CHARACTERS = "control_characters"
    ENCODING_DAMAGE = "encoding_damage"
    SPECIAL_TOKEN_INJECTION = "special_token_injection"  # noqa: S105 - a rule, not a password
    UNRENDERED_PLACEHOLDER = "unrendered_placeholder"
    MISSING_VALUE_TEXT = "missing_value_text"
    TOKEN_PIECES = "token_pieces"  # noqa: S105 - a rule, not a password
    ESCAPED_LINE_BREAKS = "escaped_line_breaks"
    HTML_ENTITIES = "html_entities"
    TEXT_RESIDUE = "text_residue"
    ANSWER_BOUNDARY = "answer_boundary"
    LOOPING_ANSWER = "looping_answer"
    UNCLOSED_THOUGHT = "unclosed_thought"
    UNBALANCED_THOUGHT = "unbalanced_thought"
    SECRET_OR_PII = "secret_or_pii"  # noqa: S105 - a rule, not a password


class SetRule(StrEnum):
    """Rules on the dataset, checked in `schemas/rules/check_set.py` on a table of features per row."""

    MIN_ROWS = "min_rows"
    BAD_ROW_FRACTION = "bad_row_fraction"
    DUPLICATE_FRACTION = "duplicate_fraction"
    NEAR_DUPLICATE_FRACTION = "near_duplicate_fraction"
    CONTRADICTORY_FRACTION = "contradictory_fraction"
    BOILERPLATE_FRACTION = "boilerplate_fraction"
    CUT_TEXT_FRACTION = "cut_text_fraction"
    TRAIN_EVAL_OVERLAP = "train_eval_overlap"
    BENCHMARK_OVERLAP = "benchmark_overlap"
    LANGUAGE_FRACTION = "language_fraction"
    LENGTH_QUANTILES = "length_quantiles"
    ROLE_MIX = "role_mix"
    SHRUNK_FRACTION = "shrunk_fraction"
    DRIFT = "drift"
    NO_SUPERVISED_TOKENS = "no_supervised_tokens"
    CONTENT_NOT_RENDERED = "content_not_rendered"
    FIELD_NOT_RENDERED = "field_not_rendered"
    TURN_NOT_TRAINED = "turn_not_trained"
    TRUNCATED_COMPLETION = "truncated_completion"
    STOP_TOKEN_NOT_SUPERVISED = "stop_token_not_supervised"  # noqa: S105 - a rule, not a password
    PROMPT_NOT_PREFIX = "prompt_not_prefix"
    DOUBLE_BOS = "double_bos"
    TOO_LONG = "too_long"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a row breaks, and what was found."""

    rule: RowRule
    detail: str


class RuleSetting(Section):
    """Severity and limit of one rule."""

    severity: Severity | None = None
    """block, warn or off; null takes the rule's default."""
    limit: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Limit in the unit of the rule; null takes the rule's default."""


class RuleExample(Record):
    """One place where a rule was broken."""

    file: str
    line: int
    """Counted from 1; the row number where the source has no lines."""
    detail: str


class RuleResult(Record):
    """What one rule found."""

    id: str
    severity: Severity
    verdict: Verdict
    n_rows: int
    """Rows that broke the rule."""
    fraction: float
    """n_rows divided by all rows checked."""
    limit: float | None = None
    observed: float | None = None
    """The value compared with the limit, for set rules."""
    examples: tuple[RuleExample, ...] = ()
    """At most five."""
    fix: str = ""
    detail: str = ""
    """What was found, in words, where a number is not enough."""
