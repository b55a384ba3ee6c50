"""Counts over all rows checked so far, and what each row rule found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.rule_ids import RowRule, RuleExample, RuleResult, RuleSetting, Severity, Verdict
from schemas.rules.row_rules import ROW_RULES, row_severities
from schemas.texts.secrets import secret_kinds
from tasks.rows.check import MOST_EXAMPLES, BlockOutcome

MOST_FIELDS = 200
OTHER_FIELDS = "(others)"
"""Where rows with further fields are counted."""
LONGEST_NAME = 80


@dataclass
class RowTally:
    """Sums up the outcomes of blocks."""

    settings: Mapping[RowRule, RuleSetting]
    severities: Mapping[RowRule, Severity] = field(init=False)
    n_rows: int = 0
    n_kept_rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    conversions: Counter[str] = field(default_factory=Counter)
    unused_fields: Counter[str] = field(default_factory=Counter)
    n_broken: Counter[RowRule] = field(default_factory=Counter)
    examples: dict[RowRule, list[RuleExample]] = field(default_factory=dict)
    first_quarantined: list[RuleExample] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Complete the severities; an invalid setting is refused here."""
        self.severities = row_severities(self.settings)

    @property
    def n_quarantined_rows(self) -> int:
        """Rows that were set aside."""
        return self.n_rows - self.n_kept_rows

    def add(self, outcome: BlockOutcome) -> BlockOutcome:
        """Count the next block, and return it."""
        self.n_rows += outcome.n_rows
        self.n_kept_rows += outcome.n_kept_rows
        self.formats.update(outcome.formats)
        self.conversions.update(outcome.conversions)
        for name, n_rows in outcome.unused_fields.items():
            is_counted = name in self.unused_fields or len(self.unused_fields) < MOST_FIELDS
            self.unused_fields[name if is_counted else OTHER_FIELDS] += n_rows
        self.n_broken.update(outcome.n_broken)
        for rule, found in outcome.examples.items():
            _fill(self.examples.setdefault(rule, []), found)
        _fill(self.first_quarantined, outcome.first_quarantined)
        return outcome

    def format_counts(self) -> dict[str, int]:
        """Count rows per recognised format, in alphabetical order."""
        return dict(sorted(self.formats.items()))

    def conversion_counts(self) -> dict[str, int]:
        """Count lossless conversions and repairs, in alphabetical order."""
        return dict(sorted(self.conversions.items()))

    def unused_field_counts(self) -> dict[str, int]:
        """Count rows per column or field of a message that nothing reads, the most frequent first.

        Names are cut to one line, and hidden if they contain a secret of the data.
        """
        counts: Counter[str] = Counter()
        for name, n_rows in self.unused_fields.items():
            kinds = secret_kinds(name)
            counts[f"(hidden: {', '.join(kinds)})" if kinds else shown_name(name)] += n_rows
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def results(self) -> tuple[RuleResult, ...]:
        """Sum up the rules that were broken.

        Returns:
            One result a rule, in the order of their definition. A blocking rule has failed; a
            limit, where one is set, is the share of rows that may break it before the set is
            rejected.
        """
        return tuple(self._result(rule) for rule in RowRule if self.n_broken[rule])

    def _result(self, rule: RowRule) -> RuleResult:
        severity = self.severities[rule]
        fraction = self.n_broken[rule] / self.n_rows
        return RuleResult(
            id=rule,
            severity=severity,
            verdict=Verdict.FAILED if severity == Severity.BLOCK else Verdict.WARNED,
            n_rows=self.n_broken[rule],
            fraction=fraction,
            limit=self.settings[rule].limit if rule in self.settings else None,
            observed=fraction,
            examples=tuple(self.examples[rule]),
            fix=ROW_RULES[rule].fix,
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


def shown_name(name: str) -> str:
    """Return the name of a field on one line, cut if it is long."""
    clean = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
    return clean if len(clean) <= LONGEST_NAME else f"{clean[: LONGEST_NAME - 1]}…"


def _fill(examples: list[RuleExample], more: list[RuleExample]) -> None:
    examples.extend(more[: MOST_EXAMPLES - len(examples)])
