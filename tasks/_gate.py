"""The data gate on one source, without a flow: row rules, and set rules that need no tokens."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from schemas.quality import check_set, set_rule_settings
from schemas.records import Record
from schemas.rows import Conversation
from schemas.rules import RuleExample, RuleResult, SetRule, Verdict
from schemas.run_config import DataSource, RunConfig
from tasks._features import MOST_EXAMPLES, Part, compare_rows, place_rows
from tasks._progress import progress_bar
from tasks._row_check import RowTally
from tasks._secrets import without_secrets
from tasks._sources import read_rows


class CheckVerdict(StrEnum):
    """What the gate says of a source."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class CheckReport(Record):
    """What the gate found in one source."""

    source: str
    verdict: CheckVerdict
    n_rows: int
    n_kept_rows: int
    n_quarantined_rows: int
    formats: dict[str, int]
    """Rows per recognised format."""
    rules: tuple[RuleResult, ...]
    """Row rules that were broken, then every set rule; those that need tokens are skipped."""


def check_file(source: DataSource | str, config: RunConfig) -> CheckReport:
    """Check one source; nothing is written, and neither torch nor Prefect is needed.

    Args:
        source: Where the rows come from; a name alone is read with the columns, split and
            revision of the configured source.
        config: Rules and their limits; the other sections are not read.

    Returns:
        The verdict with counts, places and fixes.
    """
    if isinstance(source, str):
        source = config.data.source.model_copy(update={"source": source})
    tally = RowTally(config.data.rules)
    quarantined: list[RuleExample] = []
    places = place_rows(_kept(tally, source, quarantined), Part.TRAIN)
    n_quarantined_rows = tally.n_rows - tally.n_kept_rows
    table = compare_rows(places, n_quarantined_rows, tally.n_rows)
    table.examples[SetRule.BAD_ROW_FRACTION] = quarantined
    results = check_set(
        table.frame(),
        set_rule_settings(config.quality.rules, config.quality.mode),
        {rule: tuple(found) for rule, found in table.examples.items()},
    )
    is_rejected = (
        tally.n_kept_rows == 0
        or bool(tally.exceeded())
        or any(result.verdict == Verdict.FAILED for result in results)
    )
    return CheckReport(
        source=without_secrets(source.source),
        verdict=CheckVerdict.REJECTED if is_rejected else CheckVerdict.ACCEPTED,
        n_rows=tally.n_rows,
        n_kept_rows=tally.n_kept_rows,
        n_quarantined_rows=n_quarantined_rows,
        formats=tally.format_counts(),
        rules=(*tally.results(), *results),
    )


def _kept(
    tally: RowTally, source: DataSource, quarantined: list[RuleExample]
) -> Iterator[Conversation]:
    """Check the rows, pass on those that are kept and remember the first that are not."""
    rows = tally.check(read_rows(source))
    for row in progress_bar(rows, total=None, label="check", unit="row"):
        if row.conversation:
            yield row.conversation
        elif len(quarantined) < MOST_EXAMPLES:
            reason = "; ".join(f"{v.rule}: {v.detail}" for v in row.violations)
            quarantined.append(
                RuleExample(file=row.source.file, line=row.source.line, detail=reason)
            )
