"""The data gate on one source, without a flow: row rules, set rules and, if asked, token rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.rule_ids import RuleResult, Verdict
from schemas.rules.check_set import preload, require_docstrings
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import set_rule_settings
from tasks.dataset.profile import read_reference
from tasks.dataset.row_pass import SetPass, plan_features, start_pass, watch_source, write_rows
from tasks.dataset.set_gate import CheckedRows, apply_set_rules, check_bad_rows
from tasks.engine.scratch import scratch_folder
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.tally import RowTally
from tasks.sources.mixture import Origin, title

if TYPE_CHECKING:
    from tasks.tokens.writing import SplitTokens


class CheckVerdict(StrEnum):
    """Result of the data gate."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Scope(StrEnum):
    """Which rules are checked."""

    ROWS = "rows"
    SET = "set"
    TOKENS = "tokens"


class CheckReport(Record):
    """What the data gate found in one source: `report.json`, and what `sft-flow check --json` prints."""

    source: str
    verdict: CheckVerdict
    n_rows: int
    n_kept_rows: int
    n_quarantined_rows: int
    formats: dict[str, int]
    """Rows per recognised format."""
    conversions: dict[str, int]
    """Lossless conversions and repairs, with the number of rows or places."""
    unused_fields: dict[str, int]
    """Rows with each column, or field of a message (`messages[].name`), that nothing reads."""
    rules: tuple[RuleResult, ...]
    """Row rules that were broken, then every set rule, skipped ones included."""
    profile: DataProfile | None = None
    """Shape of the set; None where only rows were checked."""
    tokens: dict[str, Any] | None = None
    """Lengths, supervised tokens and time; None where token rules were not asked for."""


@dataclass(frozen=True)
class CheckOptions:
    """What to look at and what to write."""

    scope: Scope = Scope.SET
    repaired: Path | None = None
    """File that gets the kept rows, repaired where nothing is lost."""
    folder: Path | None = None
    """Gets `quarantine.jsonl`; None: nothing is written."""


def check_file(
    source: Origin | str, config: RunConfig, options: CheckOptions | None = None
) -> CheckReport:
    """Check one source, or several as one set; only token rules need torch, and nothing needs Prefect.

    Args:
        source: Where the rows come from; a name alone is read with the columns, split and
            revision of the configured source.
        config: Rules and their limits.
        options: What to look at and what to write.

    Returns:
        The verdict with counts, places and fixes.
    """
    options = options or CheckOptions()
    if isinstance(source, str):
        source = config.data.source.model_copy(update={"source": source})
    tally = RowTally(config.data.rules)
    with scratch_folder() as folder:
        results, profile, tokens = _apply_rules(source, config, options, tally, folder)
    is_rejected = (
        tally.n_kept_rows == 0
        or bool(tally.exceeded())
        or any(result.verdict == Verdict.FAILED for result in results)
    )
    return CheckReport(
        source=title(source),
        verdict=CheckVerdict.REJECTED if is_rejected else CheckVerdict.ACCEPTED,
        n_rows=tally.n_rows,
        n_kept_rows=tally.n_kept_rows,
        n_quarantined_rows=tally.n_quarantined_rows,
        formats=tally.format_counts(),
        conversions=tally.conversion_counts(),
        unused_fields=tally.unused_field_counts(),
        rules=(*tally.results(), *results),
        profile=profile,
        tokens=tokens,
    )


def _apply_rules(
    source: Origin, config: RunConfig, options: CheckOptions, tally: RowTally, folder: Path
) -> tuple[tuple[RuleResult, ...], DataProfile | None, dict[str, Any] | None]:
    """Read the rows once, then apply the set rules; the last value is the token report."""
    quality = config.quality
    settings = set_rule_settings(quality.rules, quality.mode)
    token_check = None
    if options.scope == Scope.TOKENS:
        from tasks.dataset._check_tokens import open_token_check

        token_check = open_token_check(config, settings)
    request = CheckRequest(
        tally.severities,
        token_check.special_tokens if token_check else (),
        is_repaired=options.repaired is not None,
        has_conversations=token_check is not None,
    )
    kept = folder / "kept.jsonl"

    def write(check: SetPass) -> None:
        write_rows(
            watch_source(source, check, tally),
            kept=kept if token_check else None,
            quarantine=options.folder / "quarantine.jsonl" if options.folder else None,
            repaired=options.repaired,
        )

    if options.scope == Scope.ROWS:
        write(SetPass(request))
        return (check_bad_rows(tally, quality),), None, None
    require_docstrings()
    # The library takes seconds to import: meanwhile the rows are checked in other processes.
    loading = Thread(target=preload, daemon=True)
    loading.start()
    reference = read_reference(quality.reference)
    check = start_pass(request, plan_features(quality, settings), folder)
    with closing(check):
        write(check)
        check.finish()
    tokens: Sequence[SplitTokens] = ()
    report = None
    if token_check:
        tokens, report = token_check.tokenise(kept, tally.n_kept_rows)
    loading.join()
    rows = CheckedRows(
        check.table or FeatureTable(folder),
        tally.n_quarantined_rows,
        tally.first_quarantined,
        tally.format_counts(),
        tokens=tokens,
    )
    return *apply_set_rules(rows, quality, reference), report
