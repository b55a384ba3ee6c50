"""Scores by slices: by a column, by turns and by length; and rows where the base was better."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import ConfigError
from schemas.metrics import Direction, metric_direction
from tasks.evaluation.losses import RowLoss
from tasks.evaluation.prompt_dependence import RowDependence
from tasks.evaluation.row_scores import read_scores, summarise

FEW_ROWS = 5
"""Metrics of a smaller slice are unreliable; it is marked, and never the worst."""
MISSING = "(none)"
N_LENGTHS = 4
SLICES_FILE = "slices.json"
Slice = dict[str, Any]


def check_columns(prompts: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Check that the rows have the columns of the slices, before a model is loaded.

    Args:
        prompts: Lines of `eval_prompts.jsonl`.
        columns: `evaluation.slices`.

    Raises:
        ConfigError: No evaluation row has a value in one of them.
    """
    if not columns or not prompts:
        return
    present = sorted({column for row in prompts for column in row["columns"]})
    unknown = [column for column in columns if column not in present]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], present, n=1)
    raise ConfigError(
        f"no evaluation row has a value in the column {unknown[0]!r}",
        where="evaluation.slices",
        expected=f"one of the columns: {', '.join(present) or 'none besides the conversation'}",
        got=", ".join(columns),
        fix=f"use {near[0]!r}" if near else "correct the name, or leave it out",
    )


def write_slices(
    losses: Sequence[RowLoss],
    row_scores: Sequence[Mapping[str, Any]],
    dependence: Sequence[RowDependence],
    prompts: Sequence[Mapping[str, Any]],
    evaluation: EvaluationConfig,
    folder: Path,
) -> list[dict[str, Any]]:
    """Split every metric by slices.

    Args:
        losses: Row losses.
        row_scores: From `score_answers`.
        dependence: Of the answers on the prompts.
        prompts: Lines of `eval_prompts.jsonl`.
        evaluation: Contains the columns.
        folder: Gets `slices.json`.

    Returns:
        One mapping per slice: by, value, n_rows, is_small and metrics.
    """
    found = []
    scores = {row["row"]: row for row in row_scores}
    for by, rows_by_value in _slice_rows(prompts, evaluation.slices).items():
        for value, rows in rows_by_value.items():
            inside = [loss for loss in losses if loss.row in rows]
            answered = [scores[row] for row in sorted(rows & scores.keys())]
            metrics = summarise(inside, answered, [one for one in dependence if one.row in rows])
            part = {"by": by, "value": value, "n_rows": len(inside)}
            found.append(part | {"is_small": len(inside) < FEW_ROWS, "metrics": metrics})
    (folder / SLICES_FILE).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _slice_rows(
    prompts: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> dict[str, dict[str, set[int]]]:
    """List the rows of every slice, the values of a column in order."""
    found: dict[str, dict[str, set[int]]] = {}
    for column in columns:
        found[column] = _group(
            {row["row"]: str(row["columns"].get(column, MISSING)) for row in prompts}
        )
    found["turns"] = _group({row["row"]: str(row["n_turns"]) for row in prompts})
    lengths = sorted(len(row["prompt"]) for row in prompts)
    parts = range(1, N_LENGTHS) if lengths else ()
    limits = sorted({lengths[len(lengths) * part // N_LENGTHS] for part in parts})
    names = {row["row"]: _length_name(len(row["prompt"]), limits) for row in prompts}
    found["length"] = dict(sorted(_group(names).items(), key=lambda item: min(item[1])))
    return found


def _length_name(length: int, limits: Sequence[int]) -> str:
    """Format the range of prompt characters that a length is in."""
    lower = max((limit for limit in limits if limit <= length), default=0)
    upper = min((limit for limit in limits if limit > length), default=None)
    return f"{lower} characters and more" if upper is None else f"{lower} to {upper - 1} characters"


def _group(values: Mapping[int, str]) -> dict[str, set[int]]:
    groups: dict[str, set[int]] = defaultdict(set)
    for row, value in values.items():
        groups[value].add(row)
    return dict(sorted(groups.items()))


def worst_slice(slices: Sequence[Slice], metric: str) -> Slice | None:
    """Find the slice with the worst value of a metric.

    None when every slice is small, lacks the metric, or the metric has no direction.
    """
    direction = metric_direction(metric)
    usable = [
        one for one in slices if not one["is_small"] and one["metrics"].get(metric) is not None
    ]
    if not usable or direction is Direction.NONE:
        return None
    pick = min if direction is Direction.HIGHER else max
    return pick(usable, key=lambda one: one["metrics"][metric])


def rows_where_base_was_better(
    base: Path, challenger: Path, metric: str, n_rows: int
) -> list[dict[str, Any]]:
    """Find the rows on which the base's value is better, the widest gaps first.

    Args:
        base: Output folder of the base's evaluation.
        challenger: Output folder of the challenger's.
        metric: The metric to compare, per row: sum over weight.
        n_rows: Most rows to return.

    Returns:
        One mapping per row: row, base, challenger; none for a metric without direction.
    """
    direction = metric_direction(metric)
    if direction is Direction.NONE:
        return []
    sign = -1 if direction is Direction.LOWER else 1
    of_base, of_challenger = read_scores(base, metric), read_scores(challenger, metric)
    gaps = []
    for row in sorted(of_base.keys() & of_challenger.keys()):
        old, new = (scores[row][0] / scores[row][1] for scores in (of_base, of_challenger))
        if sign * (old - new) > 0:
            gaps.append({"row": row, "base": old, "challenger": new})
    gaps.sort(key=lambda gap: -abs(gap["base"] - gap["challenger"]))
    return gaps[:n_rows]
