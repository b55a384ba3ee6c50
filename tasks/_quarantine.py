"""What is written of a row that breaks a rule: where, why, and nothing that should stay hidden."""

from __future__ import annotations

from typing import Any

from schemas.conversation import CheckedRow
from schemas.rules import RowRule, Violation
from schemas.secret_patterns import secret_kinds

MAX_DETAIL = 200
"""Characters of what was seen; a role or a column name may be megabytes long."""
QUOTING_RULES = frozenset(
    (
        RowRule.UNKNOWN_FORMAT,
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
"""Rules that quote the data in what they say was seen."""


def reason(row: CheckedRow) -> str:
    """Say why a row was set aside.

    Args:
        row: A row that breaks a rule.

    Returns:
        Every rule with what was seen.
    """
    return "; ".join(f"{v.rule}: {safe_detail(v)}" for v in row.violations)


def safe_detail(violation: Violation) -> str:
    """Cut what was seen, and hide it where it quotes a secret of the data.

    Args:
        violation: A rule and what was seen.

    Returns:
        Text that may stand in a report.
    """
    if violation.rule in QUOTING_RULES:
        kinds = secret_kinds(violation.detail)
        if kinds:
            return f"(hidden: {', '.join(kinds)})"
    return violation.detail[:MAX_DETAIL]


def quarantined(row: CheckedRow) -> dict[str, Any]:
    """Lay a rejected row out as a line of `quarantine.jsonl`.

    Args:
        row: A row that breaks a blocking rule.

    Returns:
        Its place, the rules it breaks, the reason, and the row as it was.
    """
    return {
        "file": row.source.file,
        "line": row.source.line,
        "rules": [str(violation.rule) for violation in row.violations],
        "reason": reason(row),
        "row": row.source.row,
    }
