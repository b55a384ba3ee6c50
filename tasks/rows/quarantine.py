"""What is written of a row that was set aside, without the secrets that it may contain."""

from __future__ import annotations

from typing import Any

from schemas.rule_ids import RowRule, Violation
from schemas.rules.check_rows import CheckedRow
from schemas.texts.secrets import secret_kinds

MAX_DETAIL = 200
"""Characters of what was seen; a role or a column name may be megabytes long."""
QUOTING_RULES = frozenset(
    (
        RowRule.UNKNOWN_FORMAT,
        RowRule.PREFERENCE_ROW,
        RowRule.MESSAGE_NOT_OBJECT,
        RowRule.CONTENT_MISSING,
        RowRule.CONTENT_NOT_TEXT,
        RowRule.NO_ASSISTANT_TURN,
        RowRule.PROMPT_EMPTY,
        RowRule.COMPLETION_EMPTY,
        RowRule.SYSTEM_CONFLICT,
        RowRule.FIELD_NOT_USED,
        RowRule.UNKNOWN_ROLE,
        RowRule.LAST_TURN_NOT_ASSISTANT,
        RowRule.ROLES_NOT_ALTERNATING,
        RowRule.TOOL_CALL_INVALID,
        RowRule.TOOL_RESULT_UNMATCHED,
        RowRule.WEIGHT_INVALID,
        RowRule.SPECIAL_TOKEN_INJECTION,
        RowRule.UNRENDERED_PLACEHOLDER,
        RowRule.ENCODING_DAMAGE,
    )
)
"""Rules that quote the data in their detail."""


def reason(row: CheckedRow) -> str:
    """List every rule that a row breaks, with what was seen."""
    return "; ".join(f"{v.rule}: {safe_detail(v)}" for v in row.violations)


def safe_detail(violation: Violation) -> str:
    """Shorten what was seen, and hide it where it quotes a secret of the data."""
    if violation.rule in QUOTING_RULES:
        kinds = secret_kinds(violation.detail)
        if kinds:
            return f"(hidden: {', '.join(kinds)})"
    return violation.detail[:MAX_DETAIL]


def quarantined(row: CheckedRow) -> dict[str, Any]:
    """Make a line of `quarantine.jsonl`: place, broken rules, reason, and the row as it was."""
    return {
        "file": row.source.file,
        "line": row.source.line,
        "rules": [str(violation.rule) for violation in row.violations],
        "reason": reason(row),
        "row": row.source.row,
    }
