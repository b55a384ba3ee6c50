"""Write the page of all rules, `docs/data-rules.md`, from their definitions: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.rules.row_rules import ROW_RULES
from schemas.rules.set_rules import AT_LEAST, SET_RULES, SetRuleDefinition

HEADER = """\
# Data rules

Written by `make docs` from `schemas/rules/row_rules.py` and `schemas/rules/set_rules.py`; do not edit.
[data-gate.md](data-gate.md) explains how rules are checked and configured.

## Row rules

Each checks one row. A row that breaks a rule of severity block is moved to `quarantine.jsonl`; warn only reports.
The severity of those marked fixed cannot be changed, since such a row contains no conversation. By default a row
rule has no limit: `data.rules.<id>.limit`, such as 0.01, is the share of all rows that may break a blocking rule
before the dataset is rejected.
"""
SET_HEADER = """\
## Set rules

Each compares one value of the dataset with its limit, `quality.rules.<id>.limit`. Severity block rejects the
dataset, warn only reports.
"""
RENDERED_HEADER = """\
## Token rules

Set rules on the rows as the template and the tokenizer of the model render them; checked by the flow and by
`sft-flow check --tokens`.
"""


def rule_table() -> str:
    """Write the page of all rules in Markdown."""
    rows: list[tuple[str, ...]] = [
        (
            f"`{rule}`",
            f"{found.severity}, fixed" if found.is_structural else str(found.severity),
            found.meaning,
            found.fix,
        )
        for rule, found in ROW_RULES.items()
    ]
    parts = [HEADER, table(("rule", "severity", "what is wrong", "fix"), rows)]
    for header, is_token_rule in ((SET_HEADER, False), (RENDERED_HEADER, True)):
        rows = [
            (f"`{rule}`", str(found.severity), limit_in_words(found), found.meaning, found.fix)
            for rule, found in SET_RULES.items()
            if found.is_token_rule == is_token_rule
        ]
        names = ("rule", "severity", "default limit", "what is wrong", "fix")
        parts.extend((header, table(names, rows)))
    return "\n".join(parts)


def limit_in_words(definition: SetRuleDefinition) -> str:
    """Describe the default limit of a set rule, e.g. `at most 0.05 (share of kept rows)`."""
    if definition.limit is None:
        return f"ranges in `quality.length_quantiles` ({definition.unit})"
    side = "at least" if definition.comparison in AT_LEAST else "at most"
    return f"{side} {definition.limit:g} ({definition.unit})"


def table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a Markdown table; a vertical bar or a line break in a cell would end the cell."""
    lines = [names, ("---",) * len(names), *rows]
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rule_table(), encoding="utf-8")
