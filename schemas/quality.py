"""Set rules: whether the set as a whole is fit to train on.

Each rule is one great-expectations expectation on the narrow per-row feature table (numbers
only, null where a feature does not apply to a row). To add a rule: an id in `SetRule`, its
definition in `SET_RULES`, and its column in the table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import SftFlowError
from schemas.rules import (
    GateMode,
    RuleExample,
    RuleResult,
    RuleSetting,
    SetRule,
    Severity,
    Verdict,
)


class Comparison(StrEnum):
    """How a column becomes one figure, and which side of the limit is good."""

    SUM_AT_LEAST = "sum_at_least"
    MEAN_AT_MOST = "mean_at_most"


@dataclass(frozen=True)
class SetRuleDefinition:
    """One set rule; `column` holds 1 for a row that counts against it (for min_rows: for it)."""

    column: str
    meaning: str
    fix: str
    limit: float
    unit: str
    comparison: Comparison = Comparison.MEAN_AT_MOST
    severity: Severity = Severity.BLOCK
    is_token_rule: bool = False
    """True when the column needs the tokenizer."""


SET_RULES: dict[SetRule, SetRuleDefinition] = {
    SetRule.MIN_ROWS: SetRuleDefinition(
        column="is_usable",
        meaning="There are too few rows that can be trained or judged.",
        fix="add rows, or lower quality.rules.min_rows.limit",
        limit=10,
        unit="rows",
        comparison=Comparison.SUM_AT_LEAST,
    ),
    SetRule.BAD_ROW_FRACTION: SetRuleDefinition(
        column="is_bad",
        meaning="Too many rows broke a row rule and were set aside.",
        fix="mend the rows listed in quarantine.jsonl, or raise quality.rules.bad_row_fraction.limit",
        limit=0.05,
        unit="share of all rows",
    ),
    SetRule.DUPLICATE_FRACTION: SetRuleDefinition(
        column="is_duplicate",
        meaning="Too many conversations repeat an earlier one exactly.",
        fix="drop the repeated rows",
        limit=0.05,
        unit="share of kept rows",
    ),
    SetRule.CONTRADICTORY_FRACTION: SetRuleDefinition(
        column="is_contradictory",
        meaning="Too many prompts have several different answers.",
        fix="decide on one answer for each prompt",
        limit=0.05,
        unit="share of kept rows",
    ),
    SetRule.TRAIN_EVAL_OVERLAP: SetRuleDefinition(
        column="is_overlapping",
        meaning="Evaluation prompts stand among the training prompts too.",
        fix="keep each prompt on one side",
        limit=0,
        unit="share of evaluation rows",
    ),
    SetRule.NO_SUPERVISED_TOKENS: SetRuleDefinition(
        column="is_untrainable",
        meaning="Rows have no token to learn from, or the chat template refuses them.",
        fix="check that the training template marks what the assistant says",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: SetRuleDefinition(
        column="is_stop_unsupervised",
        meaning="The stop token is not trained, so the model would not learn to stop.",
        fix="end what the training template marks with the stop token",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
    SetRule.PROMPT_NOT_PREFIX: SetRuleDefinition(
        column="is_prompt_not_prefix",
        meaning="The prompt seen in training is not the prompt the model will be given.",
        fix="use a template that renders a prompt the same with and without its answer",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
    SetRule.DOUBLE_BOS: SetRuleDefinition(
        column="is_double_bos",
        meaning="Rows begin with two beginning-of-sequence tokens.",
        fix="take the token out of the template or the text",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
    SetRule.TOO_LONG: SetRuleDefinition(
        column="is_too_long",
        meaning="Rows have more tokens than quality.max_length_tokens.",
        fix="shorten or drop these rows, raise quality.max_length_tokens, or allow a share to be "
        "left out with quality.rules.too_long.limit",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
}


def set_rule_settings(
    settings: Mapping[SetRule, RuleSetting], mode: GateMode
) -> dict[SetRule, RuleSetting]:
    """Complete the configured rules with their defaults, loosened to what the gate's mode allows.

    Args:
        settings: What the configuration names.
        mode: warn turns every blocking rule into a warning, off every rule off.

    Returns:
        Severity and limit of every rule.
    """
    completed = {}
    for rule, definition in SET_RULES.items():
        named = settings.get(rule)
        severity = (named.severity if named else None) or definition.severity
        if mode == GateMode.OFF:
            severity = Severity.OFF
        elif mode == GateMode.WARN and severity == Severity.BLOCK:
            severity = Severity.WARN
        limit = definition.limit if named is None or named.limit is None else named.limit
        completed[rule] = RuleSetting(severity=severity, limit=limit)
    return completed


def build_suite(settings: Mapping[SetRule, RuleSetting], columns: list[str]) -> Any:
    """Write the rules as a great-expectations suite.

    Args:
        settings: What `set_rule_settings` gave.
        columns: Columns of the feature table; rules without their column are left out.

    Returns:
        The suite; each expectation's `meta` has the rule's id.
    """
    gx = _great_expectations()
    expectations: list[Any] = []
    for rule, definition in SET_RULES.items():
        setting = settings[rule]
        if setting.severity == Severity.OFF or definition.column not in columns:
            continue
        meta = {"id": str(rule)}
        if definition.comparison == Comparison.SUM_AT_LEAST:
            expectation = gx.expectations.ExpectColumnSumToBeBetween(
                column=definition.column, min_value=setting.limit, meta=meta
            )
        else:
            expectation = gx.expectations.ExpectColumnMeanToBeBetween(
                column=definition.column, max_value=setting.limit, meta=meta
            )
        expectations.append(expectation)
    return gx.ExpectationSuite(name="set rules", expectations=expectations)


def check_set(
    features: Any,
    settings: Mapping[SetRule, RuleSetting],
    examples: Mapping[SetRule, tuple[RuleExample, ...]],
) -> tuple[RuleResult, ...]:
    """Hold the set to its rules.

    Args:
        features: pandas frame, one line a row, a column of 0, 1 or null for each rule.
        settings: What `set_rule_settings` gave.
        examples: Up to five places per rule.

    Returns:
        One result per rule, in the order of their definition; skipped where a rule is off or its
        column is not there or empty.

    Raises:
        SftFlowError: great-expectations gave no answer for a rule.
    """
    columns = [name for name in features.columns if features[name].count()]
    outcomes = _validate(features, build_suite(settings, columns))
    results = []
    for rule, definition in SET_RULES.items():
        is_asked = settings[rule].severity != Severity.OFF and definition.column in columns
        if is_asked and rule not in outcomes:
            raise SftFlowError(f"great-expectations gave no answer for rule {rule}")
        outcome = outcomes.get(rule)
        column = features[definition.column] if outcome else None
        n_rows = int(column.sum()) if column is not None else 0
        n_looked_at = int(column.count()) if column is not None else 0
        severity = settings[rule].severity or definition.severity
        verdict = _verdict(outcome, severity)
        has_findings = n_rows > 0 and rule != SetRule.MIN_ROWS
        is_broken = verdict in (Verdict.FAILED, Verdict.WARNED)
        results.append(
            RuleResult(
                id=rule,
                severity=severity,
                verdict=verdict,
                n_rows=n_rows if has_findings else 0,
                fraction=n_rows / n_looked_at if has_findings else 0.0,
                limit=settings[rule].limit,
                observed=outcome[1] if outcome else None,
                examples=examples.get(rule, ()) if outcome else (),
                fix=definition.fix if is_broken or has_findings else "",
            )
        )
    return tuple(results)


def _verdict(outcome: tuple[bool, float] | None, severity: Severity) -> Verdict:
    if outcome is None:
        return Verdict.SKIPPED
    if outcome[0]:
        return Verdict.PASSED
    return Verdict.FAILED if severity == Severity.BLOCK else Verdict.WARNED


def _validate(features: Any, suite: Any) -> dict[str, tuple[bool, float]]:
    """Run great-expectations in memory: no project folder, no progress bar, no usage event."""
    if not suite.expectations:
        return {}
    gx = _great_expectations()
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("features")
    definition = asset.add_batch_definition_whole_dataframe("all rows")
    batch = definition.get_batch(batch_parameters={"dataframe": features})
    outcomes = {}
    for result in batch.validate(suite).results:
        observed = result.result.get("observed_value")
        if observed is not None and math.isfinite(observed):
            # great-expectations hands numpy's own bool and float through, which JSON refuses.
            rule = str(result.expectation_config.meta["id"])
            outcomes[rule] = (bool(result.success), float(observed))
    return outcomes


def _great_expectations() -> Any:
    """Import the library; its use of a deprecated module of Python's is no concern of a user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations

    return great_expectations
