"""Set rules: column, limit and unit of each, and the limits a configuration may set.

To add a rule: an id in `SetRule`, its definition in `SET_RULES`, and its column, which
`schemas/rules/check_set.py` validates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from schemas.errors import ConfigError
from schemas.rule_ids import DataGateMode, RuleSetting, SetRule, Severity

QuantileRanges = Mapping[float, tuple[int | None, int | None]]

DEFAULT_LENGTH_QUANTILES: QuantileRanges = {0.5: (8, 100_000)}
"""Least and most characters of the median row."""


class Comparison(StrEnum):
    """How a column becomes one value, and whether the limit is a minimum or a maximum."""

    SUM_AT_LEAST = "sum_at_least"
    MEAN_AT_MOST = "mean_at_most"
    MEAN_AT_LEAST = "mean_at_least"
    VALUE_AT_MOST = "value_at_most"
    """The column is one value computed from the dataset and the champion's profile."""
    QUANTILES_WITHIN = "quantiles_within"
    """The ranges are in quality.length_quantiles; there is no single limit."""


AT_LEAST = (Comparison.SUM_AT_LEAST, Comparison.MEAN_AT_LEAST)


@dataclass(frozen=True)
class SetRuleDefinition:
    """One set rule; a column compared by MEAN_AT_MOST is true for a row that counts against it."""

    column: str
    meaning: str
    fix: str
    limit: float | None = 0.05
    unit: str = "share of kept rows"
    comparison: Comparison = Comparison.MEAN_AT_MOST
    severity: Severity = Severity.BLOCK
    is_token_rule: bool = False
    """True when the column needs the tokenizer."""
    largest_limit: float = 1.0
    """A configured limit above this is refused: a share cannot exceed 1."""


_token_rule = partial(
    SetRuleDefinition, limit=0, unit="share of tokenised rows", is_token_rule=True
)


SET_RULES: dict[SetRule, SetRuleDefinition] = {
    SetRule.MIN_ROWS: SetRuleDefinition(
        column="is_usable",
        meaning="There are too few rows to train and evaluate.",
        fix="add rows, or lower quality.rules.min_rows.limit",
        limit=10,
        unit="rows",
        comparison=Comparison.SUM_AT_LEAST,
        largest_limit=math.inf,
    ),
    SetRule.BAD_ROW_FRACTION: SetRuleDefinition(
        column="is_bad",
        meaning="Too many rows broke a row rule and were moved to quarantine.jsonl.",
        fix="fix the rows in quarantine.jsonl, or raise quality.rules.bad_row_fraction.limit",
        unit="share of all rows",
    ),
    SetRule.DUPLICATE_FRACTION: SetRuleDefinition(
        column="is_duplicate",
        meaning="Too many conversations repeat an earlier one exactly.",
        fix="drop the duplicates",
    ),
    SetRule.NEAR_DUPLICATE_FRACTION: SetRuleDefinition(
        column="is_near_duplicate",
        meaning="Too many conversations repeat an earlier one almost word for word.",
        fix="keep one row of each group of near copies, or raise "
        "quality.rules.near_duplicate_fraction.limit",
    ),
    SetRule.CONTRADICTORY_FRACTION: SetRuleDefinition(
        column="is_contradictory",
        meaning="Too many prompts have answers that contradict each other.",
        fix="keep one answer per prompt",
    ),
    SetRule.BOILERPLATE_FRACTION: SetRuleDefinition(
        column="is_boilerplate",
        meaning="Too many rows give an answer that at least three different prompts share.",
        fix="write a specific answer for each prompt, or drop the rows with stock answers",
    ),
    SetRule.CUT_TEXT_FRACTION: SetRuleDefinition(
        column="is_cut",
        meaning="Several texts end at exactly the same, greatest length, as if a cell had cut them.",
        fix="export the texts whole; a cell of a spreadsheet takes 32,767 characters",
        limit=0,
        severity=Severity.WARN,
    ),
    SetRule.TRAIN_EVAL_OVERLAP: SetRuleDefinition(
        column="is_overlapping",
        meaning="Held-out prompts are also training or validation prompts.",
        fix="keep each prompt in one split",
        limit=0,
        unit="share of held-out rows",
    ),
    SetRule.BENCHMARK_OVERLAP: SetRuleDefinition(
        column="is_in_benchmark",
        meaning="Rows contain text of a benchmark, so its scores are not valid.",
        fix="drop the rows that share text with the benchmark files",
        limit=0,
    ),
    SetRule.LANGUAGE_FRACTION: SetRuleDefinition(
        column="is_other_language",
        meaning="Too many rows are in a language that is not in quality.languages.",
        fix="drop or translate these rows, or add their language to quality.languages",
        unit="share of sampled rows",
    ),
    SetRule.LENGTH_QUANTILES: SetRuleDefinition(
        column="n_characters",
        meaning="Rows are much shorter or longer than they should be.",
        fix="check the shortest and longest rows, or widen the ranges in quality.length_quantiles",
        limit=None,
        unit="characters",
        comparison=Comparison.QUANTILES_WITHIN,
        largest_limit=-math.inf,
    ),
    SetRule.ROLE_MIX: SetRuleDefinition(
        column="assistant_share",
        meaning="Too few of the messages in a row are answers of the assistant.",
        fix="check the roles, add answers, or lower quality.rules.role_mix.limit",
        limit=0.1,
        unit="assistant messages per message, mean over kept rows",
        comparison=Comparison.MEAN_AT_LEAST,
    ),
    SetRule.SHRUNK_FRACTION: SetRuleDefinition(
        column="shrunk_fraction",
        meaning="The dataset lost too many rows since the champion was trained.",
        fix="check that the source is complete, or raise quality.rules.shrunk_fraction.limit",
        limit=0.2,
        unit="share of the champion's rows",
        comparison=Comparison.VALUE_AT_MOST,
    ),
    SetRule.DRIFT: SetRuleDefinition(
        column="drift",
        meaning="The rows differ too much from those of the champion.",
        fix="check what changed at the source; if it is intended, raise quality.rules.drift.limit",
        # The usual limit of a significant shift; see schemas/rules/profile.py.
        limit=0.25,
        unit="population stability index",
        comparison=Comparison.VALUE_AT_MOST,
        largest_limit=math.inf,
    ),
    SetRule.NO_SUPERVISED_TOKENS: _token_rule(
        column="is_untrainable",
        meaning="Rows have no trained token, or the chat template raises an error on them.",
        fix="do what the examples say, or check that the training template marks the answers",
    ),
    SetRule.CONTENT_NOT_RENDERED: _token_rule(
        column="is_content_lost",
        meaning="The chat template leaves out a message, a tool, a tool call, an argument or reasoning, "
        "or does not mark it as trained.",
        fix="use a chat template that renders it: template.kind=chatml renders tools and tool calls, "
        "template.kind=file is your own; or remove the field from the rows",
    ),
    SetRule.FIELD_NOT_RENDERED: _token_rule(
        column="is_field_left_out",
        meaning="The chat template leaves out a name, a description or another field, or the reasoning "
        "of an earlier turn as in inference.",
        fix="nothing, if the model needs none of it; otherwise use a chat template that renders it",
        severity=Severity.WARN,
    ),
    SetRule.TURN_NOT_TRAINED: _token_rule(
        column="is_turn_untrained",
        meaning="An answer is shown but not trained, because the chat template leaves out its reasoning "
        "or does not mark it.",
        fix="nothing, if the other answers are enough; otherwise write one row per answer, each "
        "ending with it",
        severity=Severity.WARN,
    ),
    SetRule.TRUNCATED_COMPLETION: _token_rule(
        column="is_truncated_completion",
        meaning="The end of the answer is beyond quality.max_length_tokens; unless configured, the "
        "rule is as strict as too_long.",
        fix="shorten or drop these rows, or raise quality.max_length_tokens",
    ),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: _token_rule(
        column="is_stop_unsupervised",
        meaning="The stop token is not trained, so the model does not learn to stop.",
        fix="include the stop token in what the training template marks",
    ),
    SetRule.PROMPT_NOT_PREFIX: _token_rule(
        column="is_prompt_not_prefix",
        meaning="The prompt in training differs from the prompt in inference.",
        fix="use a template that renders a prompt the same with and without its answer",
    ),
    SetRule.DOUBLE_BOS: _token_rule(
        column="is_double_bos",
        meaning="Rows begin with two beginning-of-sequence tokens.",
        fix="remove the token from the template or the text",
    ),
    SetRule.TOO_LONG: _token_rule(
        column="is_too_long",
        meaning="Rows have more tokens than quality.max_length_tokens, or than the model has positions.",
        fix="shorten or drop these rows, raise quality.max_length_tokens, or allow a share of them "
        "with quality.rules.too_long.limit",
    ),
}


FOLLOWS = {SetRule.TRUNCATED_COMPLETION: SetRule.TOO_LONG}
"""Rules without a setting that take that of another: a row whose answer would be cut off is always
too long as well, so loosening too_long alone would have no effect."""


def set_rule_settings(
    settings: Mapping[SetRule, RuleSetting], mode: DataGateMode
) -> dict[SetRule, RuleSetting]:
    """Complete the configured rules with their defaults, loosened by the mode of the data gate.

    Args:
        settings: From the configuration.
        mode: warn turns every blocking rule into a warning, off every rule off.

    Returns:
        Severity and limit of every rule.

    Raises:
        ConfigError: A limit is beyond the largest value of its rule.
    """
    require_limits(settings)
    completed = {}
    for rule, definition in SET_RULES.items():
        named = settings.get(rule) or settings.get(FOLLOWS.get(rule, rule))
        severity = (named.severity if named else None) or definition.severity
        if mode == DataGateMode.OFF:
            severity = Severity.OFF
        elif mode == DataGateMode.WARN and severity == Severity.BLOCK:
            severity = Severity.WARN
        limit = definition.limit if named is None or named.limit is None else named.limit
        completed[rule] = RuleSetting(severity=severity, limit=limit)
    return completed


def require_limits(settings: Mapping[SetRule, RuleSetting]) -> None:
    """Refuse limits that can never be reached, such as a share above 1.

    Args:
        settings: From the configuration.

    Raises:
        ConfigError: A limit is beyond the largest value of its rule.
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
                fix=f"remove {key} and set quality.length_quantiles, e.g. {{0.5: [8, 100000]}}",
            )
        raise ConfigError(
            f"the limit of rule {rule} is out of range",
            where=key,
            expected=f"0 to {definition.largest_limit:g} ({definition.unit})",
            got=f"{named.limit:g}",
            fix=f"write 5 % as 0.05; the default is {definition.limit:g}",
        )


def require_quantile_ranges(ranges: QuantileRanges) -> None:
    """Refuse ranges that no dataset can meet.

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
