"""What the set rules look at once rows are parted: the sides compared, and their tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.config.run import QualityConfig
from schemas.records.references import CheckedReference, SplitReference
from schemas.rule_ids import RowRule, RuleSetting, SetRule, Severity
from schemas.rules.set_rules import SET_RULES
from tasks.dataset.comparisons import SetColumns, compare_rows, example, first_true
from tasks.dataset.profile import add_languages
from tasks.dataset.row_pass import SetPass, plan_features
from tasks.dataset.split_rows import Split
from tasks.engine.cache import locate
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import DTYPES, FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.sources.stored_rows import kept_blocks
from tasks.tokens.writing import SplitTokens

Sides = Sequence[SplitTokens]
"""Tokens of the training and the evaluation rows, and of the validation rows where there are any."""


def compare_splits(
    split: SplitReference,
    checked: CheckedReference,
    quality: QualityConfig,
    settings: Mapping[SetRule, RuleSetting],
) -> tuple[FeatureTable, SetColumns]:
    """Work out what the set rules look at, from the features the split left.

    Args:
        split: All sides.
        checked: Counts of the rows that were set aside.
        quality: Languages and benchmarks.
        settings: What `set_rule_settings` gave.

    Returns:
        Features of the rows that are trained, measured or judged, and the columns.
    """
    table = FeatureTable.load(locate(split, "row_features"))
    table = table.select(table.column("part") != Split.UNUSED)
    found = compare_rows(table, checked.n_quarantined_rows)
    add_languages(found, table, quality.languages)
    _compare_with_training(found, table)
    features = plan_features(quality, settings)
    if features.benchmark is not None:
        _look_for_benchmarks(found, locate(split, "train.jsonl"), features.benchmark)
    return table, found


def _compare_with_training(found: SetColumns, table: FeatureTable) -> None:
    """Mark the evaluation rows whose prompt or nearly whose text is trained, or chooses a checkpoint."""
    import numpy

    is_eval = table.column("part") == Split.EVAL
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


def _look_for_benchmarks(found: SetColumns, rows: Path, benchmark: Any) -> None:
    """Mark the training rows that hold a passage of a benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        table = FeatureTable(Path(folder))
        request = CheckRequest(
            dict.fromkeys(RowRule, Severity.OFF), features=FeatureRequest(benchmark=benchmark)
        )
        for _ in SetPass(request, table).outcomes(kept_blocks(rows), None):
            pass
        marks = table.column("in_benchmark")
        found.columns["is_in_benchmark"] = marks
        found.examples[SetRule.BENCHMARK_OVERLAP] = tuple(
            example(table, row, "holds a passage of a benchmark") for row in first_true(marks)
        )


def add_token_columns(found: SetColumns, table: FeatureTable, sides: Sides) -> None:
    """Put the token columns beside the others, and places to show for each token rule.

    Args:
        found: Gets the columns.
        table: Places of the rows.
        sides: Tokens of each side.
    """
    rows = side_order(table)
    columns = join_columns(sides)
    found.columns["is_usable"] = columns["is_written"]
    for rule, definition in SET_RULES.items():
        if not definition.is_token_rule:
            continue
        marks = found.columns[definition.column] = columns[definition.column]
        found.examples[rule] = tuple(
            example(table, int(rows[number]), _detail(sides, number))
            for number in first_true(marks)
        )


def side_order(table: FeatureTable) -> Any:
    """Put rows in the order of their sides: training, evaluation, validation.

    Args:
        table: Features of the rows, with the column `part`.

    Returns:
        Numbers of the rows in the table.

    Shape:
        (rows,).
    """
    import numpy

    return numpy.argsort(table.column("part"), kind="stable")


def join_columns(sides: Sides) -> dict[str, Any]:
    """Put the columns of all sides behind each other.

    Args:
        sides: Tokens of each side.

    Returns:
        Columns by name; rows in the order of `side_order`.
    """
    import numpy

    return {
        name: numpy.concatenate([side.columns[name] for side in sides]) for name in sides[0].columns
    }


def _detail(sides: Sides, number: int) -> str:
    for side in sides:
        n_rows = len(side.columns["is_written"])
        if number < n_rows:
            break
        number -= n_rows
    return side.detail(number)


def write_features(table: FeatureTable, sides: Sides, path: Path) -> None:
    """Write the table the set rules looked at, one line a row, for a person to query.

    Args:
        table: Places and features of the rows.
        sides: Their tokens.
        path: The Parquet file; rows in the order of `side_order`.
    """
    import pyarrow
    from pyarrow import parquet

    order = side_order(table)
    columns = {name: table.column(name) for name in DTYPES}
    columns = {name: values[order] for name, values in columns.items() if len(values)}
    codes = pyarrow.array(columns.pop("file").astype("int32"))
    names = pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(table.files))
    written = pyarrow.table({"file": names, **columns, **join_columns(sides)})
    parquet.write_table(written, path)
