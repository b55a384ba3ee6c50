"""The report of the data gate as a page: one line a rule, and the reasons of the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schemas.rule_ids import RowRule, RuleResult, SetRule, Severity, Verdict
from schemas.rules.profile import HISTOGRAMS, DataProfile
from schemas.rules.row_rules import ROW_RULES
from schemas.rules.set_rules import AT_LEAST, SET_RULES, Comparison
from tasks.dataset.check_file import CheckReport
from tasks.engine.files import open_atomic
from tasks.engine.wording import number, share
from tasks.report._page_parts import Bar, cut_row, histogram_bars, named_bars, render, token_parts

SHARE = "share of "
SKIPPED = {
    SetRule.TRAIN_EVAL_OVERLAP: "one file has no evaluation rows; sft-flow run checks it",
    SetRule.BENCHMARK_OVERLAP: "quality.benchmarks has no file, or no row was kept",
    SetRule.LANGUAGE_FRACTION: "quality.languages is empty, or no answer is long enough "
    "to tell its language",
    SetRule.LENGTH_QUANTILES: "quality.length_quantiles has no range, or no row was kept",
    SetRule.SHRUNK_FRACTION: "there is no profile to compare with (quality.reference)",
    SetRule.DRIFT: "there is no profile to compare with (quality.reference)",
}
"""Why a rule that is on checked nothing."""

TITLES = {
    "prompt_characters": "Characters of the prompt",
    "answer_characters": "Characters of the answers",
    "n_messages": "Messages",
}


@dataclass(frozen=True)
class RuleLine:
    """One rule as the page shows it."""

    result: RuleResult
    meaning: str
    found: str
    """The share or number; empty where the rule was skipped."""
    limit: str
    """In words; empty where there is none."""
    note: str
    """What was found, or why the rule was skipped."""

    @property
    def rows(self) -> str:
        """How many rows broke it; empty where a rule does not count rows."""
        rule = SET_RULES.get(SetRule(self.result.id)) if self.result.id in SET_RULES else None
        is_count = rule is None or rule.comparison == Comparison.MEAN_AT_MOST
        return f"{self.result.n_rows:,}" if is_count else ""

    @property
    def is_skipped(self) -> bool:
        """Whether the rule checked nothing."""
        return self.result.verdict == Verdict.SKIPPED

    @property
    def is_shown(self) -> bool:
        """Whether the rule found something to look at."""
        is_broken = self.result.verdict in (Verdict.FAILED, Verdict.WARNED)
        return is_broken or bool(self.result.examples)


def verdict_reasons(report: CheckReport) -> list[str]:
    """Return one sentence for each reason of a rejection, or one for an acceptance."""
    reasons = []
    if not report.n_kept_rows:
        reasons.append(f"None of the {report.n_rows:,} rows can be used.")
    for result in report.rules:
        line = rule_line(result)
        if result.id in SET_RULES and result.verdict == Verdict.FAILED:
            found = line.note or f"found {line.found}, allowed {line.limit}"
            reasons.append(f"{result.id}: {line.meaning.rstrip('.')} ({found}).")
        elif result.id in ROW_RULES and _is_exceeded(result):
            reasons.append(
                f"{result.id}: {result.n_rows:,} of {report.n_rows:,} rows break it "
                f"({line.found}, allowed {line.limit})."
            )
    if reasons:
        return reasons
    n_warnings = sum(result.verdict == Verdict.WARNED for result in report.rules)
    warnings = f"; {n_warnings} {'rule' if n_warnings == 1 else 'rules'} warned" * bool(n_warnings)
    return [f"No rule rejects training on the rows kept{warnings}."]


def _is_exceeded(result: RuleResult) -> bool:
    """Return whether more rows break a row rule than its own limit allows."""
    is_blocking = result.severity == Severity.BLOCK
    return is_blocking and result.limit is not None and result.fraction > result.limit


def rule_line(result: RuleResult) -> RuleLine:
    """Format what a rule found and its limit, in words and units."""
    if result.id in ROW_RULES:
        limit = "" if result.limit is None else f"at most {share(result.limit)} of all rows"
        meaning = ROW_RULES[RowRule(result.id)].meaning
        return RuleLine(result, meaning, share(result.fraction), limit, result.detail)
    rule = SetRule(result.id)
    definition = SET_RULES[rule]
    is_share = definition.unit.startswith(SHARE)
    limit = ""
    if definition.comparison != Comparison.QUANTILES_WITHIN and result.limit is not None:
        bound = "at least" if definition.comparison in AT_LEAST else "at most"
        unit = definition.unit.removeprefix(SHARE)
        amount = f"{share(result.limit)} of" if is_share else number(result.limit)
        limit = f"{bound} {amount} {unit}"
    found = ""
    if result.observed is not None:
        found = share(result.observed) if is_share else number(result.observed)
    note = skip_reason(result) if result.verdict == Verdict.SKIPPED else result.detail
    return RuleLine(result, definition.meaning, found, limit, note)


def skip_reason(result: RuleResult) -> str:
    """Return why a set rule was skipped."""
    if result.detail:
        return result.detail
    if result.severity == Severity.OFF:
        return "switched off"
    rule = SetRule(result.id)
    if SET_RULES[rule].is_token_rule:
        return "tokens were not checked; sft-flow check --tokens does"
    return SKIPPED.get(rule, "there was no row to check")


def write_data_page(report: CheckReport, folder: Path) -> Path:
    """Write the report of a check.

    Args:
        report: What the data gate found.
        folder: Gets `report.json`, `report.html` and, where the set was checked, `profile.json`.

    Returns:
        Path of the page.
    """
    with open_atomic(folder / "report.json") as stream:
        stream.write(report.model_dump_json(indent=1).encode("utf-8"))
    if report.profile is not None:
        with open_atomic(folder / "profile.json") as stream:
            stream.write(report.profile.model_dump_json(indent=1).encode("utf-8"))
    with open_atomic(folder / "report.html") as stream:
        stream.write(render_data_page(report).encode("utf-8"))
    return folder / "report.html"


def render_data_page(report: CheckReport) -> str:
    """Render the page as HTML without scripts; texts of the data are escaped, cut and visible."""
    lines = [rule_line(result) for result in report.rules]
    broken = {result.id for result in report.rules}
    tokens = report.tokens or {}
    return render(
        "data_report.html.jinja",
        report=report,
        reasons=verdict_reasons(report),
        lines=lines,
        unbroken=[rule for rule in RowRule if rule not in broken],
        is_set_checked=report.profile is not None,
        repairs={name: n for name, n in report.conversions.items() if _is_repair(name)},
        conversions={name: n for name, n in report.conversions.items() if not _is_repair(name)},
        histograms=_histograms(report.profile),
        mixes=_mixes(report.profile),
        tokens=token_parts(tokens),
        rendered_rows=[cut_row(row) for row in tokens.get("rendered_rows") or ()],
    )


def _is_repair(name: str) -> bool:
    return name.startswith("repaired_")


def _histograms(profile: DataProfile | None) -> dict[str, list[Bar]]:
    if profile is None:
        return {}
    found = {TITLES[name]: histogram_bars(getattr(profile, name)) for name in HISTOGRAMS}
    return {title: bars for title, bars in found.items() if bars}


def _mixes(profile: DataProfile | None) -> dict[str, list[Bar]]:
    if profile is None:
        return {}
    mixes = {
        "Messages by role": profile.roles,
        "Answers by language (sample)": profile.languages,
    }
    return {title: named_bars(counts) for title, counts in mixes.items() if counts}
