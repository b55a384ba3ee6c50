"""Scores by slices: by a column of the rows, by turns and by length, and where the base was better."""

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
from tasks.evaluation.row_scores import read_scores, summarise

FEW_ROWS = 5
"""Figures of a smaller slice say little; it is marked, and never the worst."""
MISSING = "(none)"
N_LENGTHS = 4
SLICES_FILE = "slices.json"
Figures = dict[str, Any]


def check_columns(prompts: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Make sure that the rows can be broken down as asked, before any model is asked.

    Args:
        prompts: Lines of `eval_prompts.jsonl`.
        columns: What `evaluation.slices` names.

    Raises:
        ConfigError: No evaluation row has a value in one of them.
    """
    if not columns or not prompts:
        return
    known = sorted({column for row in prompts for column in row["columns"]})
    unknown = [column for column in columns if column not in known]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1)
    raise ConfigError(
        f"no evaluation row has a value in the column {unknown[0]!r}",
        where="evaluation.slices",
        expected=f"of the columns there are: {', '.join(known) or 'none but the conversation'}",
        got=", ".join(columns),
        fix=f"name {near[0]!r}" if near else "correct the name, or leave it out",
    )


def write_slices(
    losses: Sequence[RowLoss],
    row_scores: Sequence[Mapping[str, Any]],
    prompts: Sequence[Mapping[str, Any]],
    evaluation: EvaluationConfig,
    folder: Path,
) -> list[Figures]:
    """Break every metric down by slices.

    Args:
        losses: Row losses.
        row_scores: What `score_answers` gave.
        prompts: Lines of `eval_prompts.jsonl`.
        evaluation: Names the columns.
        folder: Gets `slices.json`.

    Returns:
        One mapping a slice: by, value, n_rows, is_small and metrics.
    """
    found = []
    scores = {row["row"]: row for row in row_scores}
    for by, rows_by_value in _slice_rows(prompts, evaluation.slices).items():
        for value, rows in rows_by_value.items():
            inside = [loss for loss in losses if loss.row in rows]
            metrics = summarise(inside, [scores[row] for row in sorted(rows & scores.keys())])
            found.append(
                {
                    "by": by,
                    "value": value,
                    "n_rows": len(inside),
                    "is_small": len(inside) < FEW_ROWS,
                    "metrics": metrics,
                }
            )
    (folder / SLICES_FILE).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _slice_rows(
    prompts: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> dict[str, dict[str, set[int]]]:
    """Name the rows of every slice, the values of a column in order."""
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
    """Name the range of prompt characters a length falls into."""
    lower = max((limit for limit in limits if limit <= length), default=0)
    upper = min((limit for limit in limits if limit > length), default=None)
    return f"{lower} characters and more" if upper is None else f"{lower} to {upper - 1} characters"


def _group(values: Mapping[int, str]) -> dict[str, set[int]]:
    groups: dict[str, set[int]] = defaultdict(set)
    for row, value in values.items():
        groups[value].add(row)
    return dict(sorted(groups.items()))


def worst_slice(slices: Sequence[Figures], metric: str) -> Figures | None:
    """Find the slice with the worst figure.

    Args:
        slices: Of one model.
        metric: What is compared.

    Returns:
        The slice; None when every slice is small, lacks the metric, or the metric has no
        direction.
    """
    direction = metric_direction(metric)
    able = [one for one in slices if not one["is_small"] and one["metrics"].get(metric) is not None]
    if not able or direction is Direction.NONE:
        return None
    pick = min if direction is Direction.HIGHER else max
    return pick(able, key=lambda one: one["metrics"][metric])


def rows_where_base_was_better(
    base: Path, challenger: Path, metric: str, n_rows: int
) -> list[Figures]:
    """Find the rows on which the base's figure is better, the widest gaps first.

    Args:
        base: Output folder of the base's judging.
        challenger: That of the challenger.
        metric: What is compared, per row: sum over weight.
        n_rows: Most rows to give.

    Returns:
        One mapping a row: row, base, challenger; none for a metric without direction.
    """
    direction = metric_direction(metric)
    if direction is Direction.NONE:
        return []
    sign = -1 if direction is Direction.LOWER else 1
    ours, theirs = read_scores(challenger, metric), read_scores(base, metric)
    gaps = []
    for row in sorted(ours.keys() & theirs.keys()):
        one, other = (side[row][0] / side[row][1] for side in (theirs, ours))
        if sign * (one - other) > 0:
            gaps.append({"row": row, "base": one, "challenger": other})
    gaps.sort(key=lambda gap: -abs(gap["base"] - gap["challenger"]))
    return gaps[:n_rows]
