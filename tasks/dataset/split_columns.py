"""Columns of the set rules that only the split rows have, and the table of all features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.config.run import QualityConfig
from schemas.records.references import SplitReference
from schemas.rule_ids import RowRule, Severity
from schemas.rules.set_rules import set_rule_settings
from tasks.dataset.comparisons import SetColumns, mark_benchmark_rows
from tasks.dataset.row_pass import SetPass, plan_features
from tasks.dataset.set_gate import join_columns, order_by_split
from tasks.dataset.split_rows import Split
from tasks.engine.cache import locate
from tasks.engine.scratch import scratch_folder
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import DTYPES, FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.sources.stored_rows import kept_blocks
from tasks.tokens.writing import SplitTokens


def read_used_rows(split: SplitReference) -> FeatureTable:
    """Read the features of all rows that are trained on or evaluated."""
    table = FeatureTable.load(locate(split, "row_features"))
    return table.select(table.column("part") != Split.UNUSED)


def mark_eval_rows(split: SplitReference) -> list[dict[str, Any]]:
    """Return `group` and `digest` of each evaluation row, in the order of `eval.jsonl`.

    Rows of one group have the same prompt or nearly the same text, so they are no independent
    evidence. Groups count from 0 in the order of the rows, so that rows elsewhere do not change
    their numbers. The digest is that of the normalised prompt, by which a row is found among those
    that a model was trained on.
    """
    table = FeatureTable.load(locate(split, "row_features"))
    table = table.select(table.column("part") == Split.EVAL)
    numbers: dict[int, int] = {}
    return [
        {"group": numbers.setdefault(group, len(numbers)), "digest": f"{prompt:016x}"}
        for group, prompt in zip(
            table.column("group").tolist(), table.column("prompt").tolist(), strict=True
        )
    ]


def find_benchmark_rows(split: SplitReference, quality: QualityConfig) -> SetColumns:
    """Mark the training rows that contain a passage of a benchmark, if the rule is on."""
    found = SetColumns()
    settings = set_rule_settings(quality.rules, quality.mode)
    benchmark = plan_features(quality, settings).benchmark
    if benchmark is None:
        return found
    with scratch_folder() as folder:
        table = FeatureTable(folder)
        request = CheckRequest(
            dict.fromkeys(RowRule, Severity.OFF), features=FeatureRequest(benchmark=benchmark)
        )
        SetPass(request, table).run(kept_blocks(locate(split, "train.jsonl")))
        mark_benchmark_rows(found, table)
    return found


def write_features(table: FeatureTable, tokens: Sequence[SplitTokens], path: Path) -> None:
    """Write what the set rules looked at as Parquet, one line a row, in the order of `order_by_split`."""
    import pyarrow
    from pyarrow import parquet

    order = order_by_split(table)
    columns = {name: table.column(name) for name in DTYPES}
    columns = {name: values[order] for name, values in columns.items() if len(values)}
    codes = pyarrow.array(columns.pop("file").astype("int32"))
    names = pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(table.files))
    written = pyarrow.table({"file": names, **columns, **join_columns(tokens)})
    parquet.write_table(written, path)
