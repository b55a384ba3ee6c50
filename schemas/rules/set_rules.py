"""Set rules: what each looks at, its limit, and what a configuration may ask of it.

To add a rule: an id in `SetRule`, its definition in `SET_RULES`, and its column, which
`schemas/rules/check_set.py` hands to great-expectations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import ConfigError
from schemas.rule_ids import GateMode, RuleSetting, SetRule, Severity

QuantileRanges = Mapping[float, tuple[int | None, int | None]]

DEFAULT_LENGTH_QUANTILES: QuantileRanges = {0.5: (8, 100_000)}
"""Least and most characters of the row in the middle."""


class Comparison(StrEnum):
    """How a column becomes one figure, and which side of the limit is good."""

    SUM_AT_LEAST = "sum_at_least"
    MEAN_AT_MOST = "mean_at_most"
    MEAN_AT_LEAST = "mean_at_least"
    FIGURE_AT_MOST = "figure_at_most"
    """The column is one figure that was worked out from the set and the champion's profile."""
    QUANTILES_WITHIN = "quantiles_within"
    """The ranges stand in quality.length_quantiles; there is no single limit."""


AT_LEAST = (Comparison.SUM_AT_LEAST, Comparison.MEAN_AT_LEAST)


@dataclass(frozen=True)
class SetRuleDefinition:
    """One set rule; a column compared by MEAN_AT_MOST is true for a row that counts against it."""

    column: str
    meaning: str
    fix: str
    limit: float | None
    unit: str
    comparison: Comparison = Comparison.MEAN_AT_MOST
    severity: Severity = Severity.BLOCK
    is_token_rule: bool = False
    """True when the column needs the tokenizer."""
    largest_limit: float = 1.0
    """A configured limit above this is refused: a share cannot exceed 1."""


SET_RULES: dict[SetRule, SetRuleDefinition] = {
    SetRule.MIN_ROWS: SetRuleDefinition(
        column="is_usable",
        meaning="There are too few rows that can be trained or judged.",
        fix="add rows, or lower quality.rules.min_rows.limit",
        limit=10,
        unit="rows",
        comparison=Comparison.SUM_AT_LEAST,
        largest_limit=math.inf,
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
    SetRule.NEAR_DUPLICATE_FRACTION: SetRuleDefinition(
        column="is_near_duplicate",
        meaning="Too many conversations repeat an earlier one almost word for word.",
        fix="keep one row of each group of near copies, or raise "
        "quality.rules.near_duplicate_fraction.limit",
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
    SetRule.BOILERPLATE_FRACTION: SetRuleDefinition(
        column="is_boilerplate",
        meaning="Too many rows give an answer that at least three different prompts share.",
        fix="write answers of their own for these prompts, or drop the rows with stock answers",
        limit=0.05,
        unit="share of kept rows",
    ),
    SetRule.TRAIN_EVAL_OVERLAP: SetRuleDefinition(
        column="is_overlapping",
        meaning="Evaluation prompts stand among the training or validation prompts too.",
        fix="keep each prompt on one side",
        limit=0,
        unit="share of evaluation rows",
    ),
    SetRule.BENCHMARK_OVERLAP: SetRuleDefinition(
        column="is_in_benchmark",
        meaning="Rows contain text of a benchmark, so its scores would mean nothing.",
        fix="drop the rows that share text with the benchmark files",
        limit=0,
        unit="share of kept rows",
    ),
    SetRule.LANGUAGE_FRACTION: SetRuleDefinition(
        column="is_other_language",
        meaning="Too many rows are in a language that quality.languages does not name.",
        fix="drop or translate these rows, or add their language to quality.languages",
        limit=0.05,
        unit="share of sampled rows",
    ),
    SetRule.LENGTH_QUANTILES: SetRuleDefinition(
        column="n_characters",
        meaning="Rows are much shorter or longer than they should be.",
        fix="look at the shortest and longest rows, or widen the ranges in quality.length_quantiles",
        limit=None,
        unit="characters",
        comparison=Comparison.QUANTILES_WITHIN,
        largest_limit=-math.inf,
    ),
    SetRule.ROLE_MIX: SetRuleDefinition(
        column="assistant_share",
        meaning="Too few of the messages in a row are answers of the assistant.",
        fix="check how roles are read, add answers, or lower quality.rules.role_mix.limit",
        limit=0.1,
        unit="assistant messages per message, mean over kept rows",
        comparison=Comparison.MEAN_AT_LEAST,
    ),
    SetRule.SHRUNK_FRACTION: SetRuleDefinition(
        column="shrunk_fraction",
        meaning="The set lost too many rows since the champion was trained.",
        fix="check that the source is complete, or raise quality.rules.shrunk_fraction.limit",
        limit=0.2,
        unit="share of the champion's rows",
        comparison=Comparison.FIGURE_AT_MOST,
    ),
    SetRule.DRIFT: SetRuleDefinition(
        column="drift",
        meaning="The rows differ too much from those the champion was trained on.",
        fix="check what changed at the source; if the change is meant, raise "
        "quality.rules.drift.limit",
        # The usual bound of a significant shift; see schemas/rules/profile.py.
        limit=0.25,
        unit="population stability index",
        comparison=Comparison.FIGURE_AT_MOST,
        largest_limit=math.inf,
    ),
    SetRule.NO_SUPERVISED_TOKENS: SetRuleDefinition(
        column="is_untrainable",
        meaning="Rows have no token to learn from, or the chat template refuses them.",
        fix="check that the training template marks what the assistant says",
        limit=0,
        unit="share of tokenised rows",
        is_token_rule=True,
    ),
    SetRule.TRUNCATED_COMPLETION: SetRuleDefinition(
        column="is_truncated_completion",
        meaning="The longest length allowed would cut off the end of the answer; unless configured "
        "itself, the rule is as strict as too_long.",
        fix="shorten or drop these rows, or raise quality.max_length_tokens",
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


FOLLOWS = {SetRule.TRUNCATED_COMPLETION: SetRule.TOO_LONG}
"""Rules that take another's setting where none of their own is named: a row whose answer would be
cut off is always too long as well, so that loosening too_long alone would loosen nothing."""


def set_rule_settings(
    settings: Mapping[SetRule, RuleSetting], mode: GateMode
) -> dict[SetRule, RuleSetting]:
    """Complete the configured rules with their defaults, loosened to what the gate's mode allows.

    Args:
        settings: What the configuration names.
        mode: warn turns every blocking rule into a warning, off every rule off.

    Returns:
        Severity and limit of every rule.

    Raises:
        ConfigError: A limit is beyond what its rule can measure.
    """
    require_limits(settings)
    completed = {}
    for rule, definition in SET_RULES.items():
        named = settings.get(rule) or settings.get(FOLLOWS.get(rule, rule))
        severity = (named.severity if named else None) or definition.severity
        if mode == GateMode.OFF:
            severity = Severity.OFF
        elif mode == GateMode.WARN and severity == Severity.BLOCK:
            severity = Severity.WARN
        limit = definition.limit if named is None or named.limit is None else named.limit
        completed[rule] = RuleSetting(severity=severity, limit=limit)
    return completed


def require_limits(settings: Mapping[SetRule, RuleSetting]) -> None:
    """Refuse limits that could never be reached, such as a share above 1.

    Args:
        settings: What the configuration names.

    Raises:
        ConfigError: A limit is beyond what its rule can measure.
    """
    for rule, named in settings.items():
        definition = SET_RULES[rule]
        if named.limit is None or named.limit <= definition.largest_limit:
            continue
        key = f"quality.rules.{rule}.limit"
        if definition.limit is None:
            raise ConfigError(
                f"rule {rule} has no single limit",
                where=key,
                expected="ranges in quality.length_quantiles",
                got=f"{named.limit:g}",
                fix=f"take {key} out and set quality.length_quantiles, e.g. {{0.5: [8, 100000]}}",
            )
        raise ConfigError(
            f"the limit of rule {rule} is not a share",
            where=key,
            expected=f"0 to {definition.largest_limit:g} ({definition.unit})",
            got=f"{named.limit:g}",
            fix=f"write 5 % as 0.05; the default is {definition.limit:g}",
        )


def require_quantile_ranges(ranges: QuantileRanges) -> None:
    """Refuse ranges that no set could keep to.

    Args:
        ranges: Least and most characters allowed at each quantile; None for no bound.

    Raises:
        ConfigError: A quantile is not between 0 and 1, or a range is upside down.
    """
    for quantile, (least, most) in ranges.items():
        is_upside_down = least is not None and most is not None and least > most
        if 0 <= quantile <= 1 and not is_upside_down:
            continue
        raise ConfigError(
            "a length quantile has a range that is not allowed",
            where=f"quality.length_quantiles.{quantile:g}",
            expected="a quantile from 0 to 1, and [least, most] characters, null for no bound",
            got=f"{quantile:g}: [{least}, {most}]",
            fix="correct it; the default is {0.5: [8, 100000]}",
        )
