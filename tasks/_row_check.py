"""Hold rows to the row rules, batch by batch, and count what they break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from schemas.conversation import ROW_RULES, CheckedRow, check_rows, row_severities
from schemas.rows import RowFormat, SourceRow
from schemas.rules import RowRule, RuleExample, RuleResult, RuleSetting, Severity, Verdict

BATCH_ROWS = 5000
"""Rows checked at a time: enough to keep pandera's fixed cost small, few enough for memory."""
MOST_EXAMPLES = 5


@dataclass
class RowTally:
    """Counts over all rows checked so far."""

    settings: Mapping[RowRule, RuleSetting]
    severities: Mapping[RowRule, Severity] = field(init=False)
    n_rows: int = 0
    n_kept_rows: int = 0
    formats: Counter[RowFormat] = field(default_factory=Counter)
    n_broken: Counter[RowRule] = field(default_factory=Counter)
    examples: dict[RowRule, list[RuleExample]] = field(default_factory=dict)
    first_format: RowFormat | None = None

    def __post_init__(self) -> None:
        """Complete the severities; a setting that cannot be is refused here."""
        self.severities = row_severities(self.settings)

    def check(self, rows: Iterable[SourceRow]) -> Iterator[CheckedRow]:
        """Check rows and count them.

        Args:
            rows: The rows, in order.

        Yields:
            The rows in the same order, each with what it breaks.
        """
        waiting = iter(rows)
        while batch := list(islice(waiting, BATCH_ROWS)):
            for checked in check_rows(batch, self.severities, self.first_format):
                self._count(checked)
                yield checked

    def _count(self, checked: CheckedRow) -> None:
        self.n_rows += 1
        self.n_kept_rows += checked.conversation is not None
        if checked.format:
            self.first_format = self.first_format or checked.format
            self.formats[checked.format] += 1
        for violation in checked.violations:
            self.n_broken[violation.rule] += 1
            found = self.examples.setdefault(violation.rule, [])
            if len(found) < MOST_EXAMPLES:
                source = checked.source
                found.append(
                    RuleExample(file=source.file, line=source.line, detail=violation.detail)
                )

    def format_counts(self) -> dict[str, int]:
        """Count rows per recognised format.

        Returns:
            Format to rows, in alphabetical order.
        """
        return {str(name): self.formats[name] for name in sorted(self.formats)}

    def results(self) -> tuple[RuleResult, ...]:
        """Sum up the rules that were broken.

        Returns:
            One result a rule, in the order of their definition. A blocking rule has failed; a
            limit, where one is set, is the share of rows that may break it before the set is
            rejected.
        """
        return tuple(
            RuleResult(
                id=rule,
                severity=self.severities[rule],
                verdict=(
                    Verdict.FAILED if self.severities[rule] == Severity.BLOCK else Verdict.WARNED
                ),
                n_rows=self.n_broken[rule],
                fraction=self.n_broken[rule] / self.n_rows,
                limit=self.settings[rule].limit if rule in self.settings else None,
                observed=self.n_broken[rule] / self.n_rows,
                examples=tuple(self.examples[rule]),
                fix=ROW_RULES[rule].fix,
            )
            for rule in RowRule
            if self.n_broken[rule]
        )

    def exceeded(self) -> tuple[RuleResult, ...]:
        """Find the blocking rules that more rows break than their own limit allows.

        Returns:
            Their results; rules without a limit are never among them.
        """
        return tuple(
            result
            for result in self.results()
            if result.severity == Severity.BLOCK
            and result.limit is not None
            and result.fraction > result.limit
        )
