"""The data gate on one source, without a flow: row rules, set rules and, if asked, token rules."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import Any

from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.rule_ids import RuleResult, RuleSetting, SetRule, Severity, Verdict
from schemas.rules.check_set import SetContext, check_set, preload
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import SET_RULES, set_rule_settings
from tasks.dataset.comparisons import SetColumns, compare_rows
from tasks.dataset.profile import add_languages, make_profile, read_reference
from tasks.dataset.row_pass import SetPass, plan_features, start_pass, watch_source
from tasks.engine.files import open_atomic
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.tally import RowTally
from tasks.sources.mixture import Origin, title


class CheckVerdict(StrEnum):
    """What the gate says of a source."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Scope(StrEnum):
    """How far the gate looks."""

    ROWS = "rows"
    SET = "set"
    TOKENS = "tokens"


class CheckReport(Record):
    """What the gate found in one source: `report.json`, and what `sft-flow check --json` prints."""

    source: str
    verdict: CheckVerdict
    n_rows: int
    n_kept_rows: int
    n_quarantined_rows: int
    formats: dict[str, int]
    """Rows per recognised format."""
    conversions: dict[str, int]
    """Loss-free rewritings and repairs, with the number of rows or places."""
    rules: tuple[RuleResult, ...]
    """Row rules that were broken, then every set rule that was looked at or skipped."""
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


@dataclass
class GateRun:
    """What one run of the gate gathers."""

    tally: RowTally
    folder: Path
    """For what does not fit into memory."""
    columns: SetColumns = field(default_factory=SetColumns)
    profile: DataProfile | None = None
    tokens: dict[str, Any] | None = None


def check_file(
    source: Origin | str, config: RunConfig, options: CheckOptions | None = None
) -> CheckReport:
    """Check one source, or several as one set; neither torch nor Prefect is needed unless tokens are asked for.

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
    with tempfile.TemporaryDirectory(prefix="sft-check-") as folder:
        run = GateRun(RowTally(config.data.rules), Path(folder))
        results = _run_gate(source, config, options, run)
    tally = run.tally
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
        conversions=dict(sorted(tally.conversions.items())),
        rules=(*tally.results(), *results),
        profile=run.profile,
        tokens=run.tokens,
    )


def _run_gate(
    source: Origin, config: RunConfig, options: CheckOptions, run: GateRun
) -> tuple[RuleResult, ...]:
    """Go through the rows once, then hold the set to its rules."""
    settings = set_rule_settings(config.quality.rules, config.quality.mode)
    token_gate = None
    if options.scope == Scope.TOKENS:
        from tasks.dataset._check_tokens import add_tokens, open_token_gate

        token_gate = open_token_gate(config, settings)
    request = CheckRequest(
        run.tally.severities,
        token_gate.special_tokens if token_gate else (),
        is_repaired=options.repaired is not None,
        has_conversations=options.scope == Scope.TOKENS,
    )
    if options.scope == Scope.ROWS:
        _check_rows(source, SetPass(request), options, run)
        return (bad_row_budget(run.tally, settings[SetRule.BAD_ROW_FRACTION]),)
    # The library takes seconds to import: meanwhile the rows are checked in other processes.
    loading = Thread(target=preload, daemon=True)
    loading.start()
    reference = read_reference(config.quality.reference)
    features = plan_features(config.quality, settings)
    check = start_pass(request, features, run.folder)
    with closing(check):
        _check_rows(source, check, options, run)
        check.finish()
    table = check.table or FeatureTable(run.folder)
    run.columns = compare_rows(table, run.tally.n_quarantined_rows)
    add_languages(run.columns, table, config.quality.languages)
    run.columns.examples[SetRule.BAD_ROW_FRACTION] = tuple(run.tally.first_quarantined)
    run.profile = make_profile(table, run.tally.format_counts())
    if token_gate:
        kept = run.folder / "kept.jsonl"
        run.tokens = add_tokens(run.columns, table, kept, token_gate)
    loading.join()
    return check_set(
        run.columns.columns,
        settings,
        run.columns.examples,
        reference,
        SetContext(length_quantiles=config.quality.length_quantiles, profile=run.profile),
    )


def bad_row_budget(tally: RowTally, setting: RuleSetting) -> RuleResult:
    """Hold the rows set aside to their budget where no other set rule is looked at.

    Args:
        tally: Counts over all rows.
        setting: Severity and limit of rule bad_row_fraction.

    Returns:
        The rule's result, as great-expectations would give it, without seconds of importing it.
    """
    definition = SET_RULES[SetRule.BAD_ROW_FRACTION]
    severity = setting.severity or definition.severity
    limit = definition.limit if setting.limit is None else setting.limit
    fraction = tally.n_quarantined_rows / tally.n_rows if tally.n_rows else 0.0
    verdict = Verdict.PASSED
    if severity == Severity.OFF:
        verdict = Verdict.SKIPPED
    elif limit is not None and fraction > limit:
        verdict = Verdict.FAILED if severity == Severity.BLOCK else Verdict.WARNED
    return RuleResult(
        id=SetRule.BAD_ROW_FRACTION,
        severity=severity,
        verdict=verdict,
        n_rows=tally.n_quarantined_rows,
        fraction=fraction,
        limit=limit,
        observed=fraction,
        examples=tuple(tally.first_quarantined),
        fix=definition.fix if tally.n_quarantined_rows else "",
    )


def _check_rows(source: Origin, check: SetPass, options: CheckOptions, run: GateRun) -> None:
    """Check every row; write those set aside, and those kept where a file for them is named."""
    quarantine = options.folder / "quarantine.jsonl" if options.folder else None
    kept = run.folder / "kept.jsonl" if options.scope == Scope.TOKENS else None
    with (
        open_atomic(quarantine) as rejected_stream,
        open_atomic(options.repaired) as repaired_stream,
        open_atomic(kept) as kept_stream,
    ):
        for outcome in watch_source(source, check, run.tally):
            if rejected_stream:
                rejected_stream.write(outcome.quarantine.encode("utf-8"))
            if repaired_stream:
                repaired_stream.write(outcome.repaired)
            if kept_stream:
                kept_stream.write(outcome.kept)
