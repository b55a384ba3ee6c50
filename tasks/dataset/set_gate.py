"""Apply the set rules to the rows that passed the row rules, for `sft-flow check` and for the flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.config.run import QualityConfig
from schemas.rule_ids import RuleExample, RuleResult, SetRule
from schemas.rules.check_set import SetContext, check_set, check_share
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import SET_RULES, set_rule_settings
from tasks.dataset.comparisons import (
    SetColumns,
    compare_rows,
    example,
    first_true,
    quarantined_flags,
)
from tasks.dataset.profile import add_languages, make_profile
from tasks.dataset.split_rows import Split
from tasks.rows.feature_table import FeatureTable
from tasks.rows.tally import RowTally

if TYPE_CHECKING:
    from tasks.engine.arrays import Array, Numbers
    from tasks.tokens.writing import SplitTokens


@dataclass(frozen=True)
class CheckedRows:
    """Rows that passed the row rules, and the number of those that did not."""

    table: FeatureTable
    """With the column `part` after the split."""
    n_quarantined_rows: int
    first_quarantined: Sequence[RuleExample]
    formats: Mapping[str, int]
    kept_sha256: str = ""
    tokens: Sequence[SplitTokens] = ()
    """Of the rows in the order of `order_by_split`; without them token rules are skipped."""
    found: SetColumns = field(default_factory=SetColumns)
    """Columns that are not computed from the table, such as passages of benchmarks."""


def apply_set_rules(
    rows: CheckedRows, quality: QualityConfig, reference: DataProfile | None
) -> tuple[tuple[RuleResult, ...], DataProfile]:
    """Evaluate every set rule.

    Args:
        rows: The rows, before or after the split.
        quality: Rules, limits and languages.
        reference: Profile of the champion's data, to compare with.

    Returns:
        One result a rule, and the profile of the rows.
    """
    table = rows.table
    found = compare_rows(table, rows.n_quarantined_rows)
    found.examples[SetRule.BAD_ROW_FRACTION] = tuple(rows.first_quarantined)
    add_languages(found, table, quality.languages)
    _compare_with_training(found, table)
    if rows.tokens:
        _add_token_columns(found, table, rows.tokens)
    found.columns |= rows.found.columns
    found.examples |= rows.found.examples
    profile = make_profile(table, rows.formats, rows.kept_sha256)
    settings = set_rule_settings(quality.rules, quality.mode)
    context = SetContext(length_quantiles=quality.length_quantiles, profile=profile)
    results = check_set(found.columns, settings, found.examples, reference, context)
    return results, profile


def check_bad_rows(tally: RowTally, quality: QualityConfig) -> RuleResult:
    """Evaluate rule bad_row_fraction alone, without importing great-expectations."""
    rule = SetRule.BAD_ROW_FRACTION
    setting = set_rule_settings(quality.rules, quality.mode)[rule]
    is_bad = quarantined_flags(tally.n_kept_rows, tally.n_quarantined_rows)
    return check_share(rule, setting, is_bad, tuple(tally.first_quarantined))


def _compare_with_training(found: SetColumns, table: FeatureTable) -> None:
    """Mark evaluation rows whose prompt or nearly whose text is trained, or chooses a checkpoint."""
    import numpy

    part = table.column("part")
    if not len(part):
        return
    is_eval = part == Split.EVAL
    marks = numpy.zeros(int(is_eval.sum()), dtype=bool)
    for name in ("prompt", "whole", "cluster"):
        keys = table.column(name)
        marks |= numpy.isin(keys[is_eval], keys[~is_eval])
    found.columns["is_overlapping"] = marks
    rows = numpy.flatnonzero(is_eval)
    found.examples[SetRule.TRAIN_EVAL_OVERLAP] = tuple(
        example(table, int(rows[number]), "it is trained too, or nearly so")
        for number in first_true(marks)
    )


def _add_token_columns(
    found: SetColumns, table: FeatureTable, tokens: Sequence[SplitTokens]
) -> None:
    rows = order_by_split(table)
    columns = join_columns(tokens)
    found.columns["is_usable"] = columns["is_written"]
    for rule, definition in SET_RULES.items():
        if definition.is_token_rule:
            marks = found.columns[definition.column] = columns[definition.column]
            found.examples[rule] = tuple(
                example(table, int(rows[number]), _detail(tokens, rule, number))
                for number in first_true(marks)
            )


def order_by_split(table: FeatureTable) -> Numbers:
    """Return the row numbers of training, then evaluation, then validation; all without a split.

    Shape:
        (rows,).
    """
    import numpy

    part = table.column("part")
    return numpy.argsort(part, kind="stable") if len(part) else numpy.arange(table.n_rows)


def join_columns(tokens: Sequence[SplitTokens]) -> dict[str, Array]:
    """Concatenate the columns of all splits, in the order of `order_by_split`."""
    import numpy

    return {
        name: numpy.concatenate([part.columns[name] for part in tokens])
        for name in tokens[0].columns
    }


def _detail(tokens: Sequence[SplitTokens], rule: SetRule, number: int) -> str:
    for part in tokens:
        n_rows = len(part.columns["is_written"])
        if number < n_rows:
            break
        number -= n_rows
    return part.detail(number, rule)
