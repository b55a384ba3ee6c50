"""What the report shows besides figures: rows as the model saw them, times, links, the judge."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from schemas.records import Evidence
from schemas.secret_patterns import secret_kinds
from tasks._rendering import NOT_TRAINED, RenderedRow, Renderer, load_renderer
from tasks._report_answers import judge_figures
from tasks._token_report import token_view
from tasks._token_rows import read_token_rows
from tasks.engine.cache import locate
from tasks.engine.journal import read_entries
from tasks.engine.jsonl import read_jsonl
from tasks.registry.lineage import flow_run_tags

SHOWN_ROWS = 2
MOST_LOOKED_AT = 50
"""Rows looked at to find some without a secret, which the rules may only have warned of."""
JUDGED_SIDES = {"generate_baseline": "base", "evaluate_champion": "champion"}


def training_rows(evidence: Evidence) -> list[list[tuple[str, bool]]]:
    """Write the first training rows out as the model saw them.

    Args:
        evidence: What the run rests on.

    Returns:
        Two rows as pieces of text, each with whether it is trained.
    """
    renderer = load_renderer(
        locate(evidence.template, "model"), locate(evidence.template, "training_template.jinja")
    )
    return view_rows(renderer, locate(evidence.quality, "train_tokens.parquet"))


def view_rows(renderer: Renderer, tokens: Path) -> list[list[tuple[str, bool]]]:
    """Decode the first tokenised rows that hold no secret.

    Args:
        renderer: The prepared model's tokenizer.
        tokens: Parquet file with `row`, `input_ids` and `labels`.

    Returns:
        At most two rows as pieces of text, each with whether it is trained.
    """
    found: list[list[tuple[str, bool]]] = []
    first = next(read_token_rows(tokens), None)
    for index in range(min(len(first.numbers), MOST_LOOKED_AT) if first else 0):
        if first is None or len(found) == SHOWN_ROWS:
            break
        ids, labels = first.row(index)
        view = token_view(renderer, _rendered(ids.tolist(), labels.tolist()))
        if not secret_kinds("".join(text for text, _ in view)):
            found.append(view)
    return found


def _rendered(ids: list[int], labels: list[int]) -> RenderedRow:
    """Find the trained stretches again."""
    spans: list[tuple[int, int]] = []
    place = 0
    for is_trained, stretch in groupby(label != NOT_TRAINED for label in labels):
        end = place + len(list(stretch))
        if is_trained:
            spans.append((place, end))
        place = end
    return RenderedRow(ids, tuple(spans), stop_is_supervised=True, prompt_is_prefix=True, n_bos=0)


def run_timings() -> dict[str, Any]:
    """Tell what the stages of the flow run at work took so far.

    Returns:
        The run's id, its page where the Prefect server has one, and its stages in order; without
        an id and stages outside a flow run.
    """
    tags = flow_run_tags()
    run_id = tags.get("sft.flow_run_id")
    entries = read_entries(run_id) if run_id else []
    return {
        "flow_run_id": run_id,
        "flow_run_url": tags.get("sft.flow_run_url") or None,
        "stages": [
            entry.model_dump(mode="json", include={"stage", "event", "detail", "seconds"})
            for entry in entries
        ],
    }


def judge_part(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Sum up a judging model's verdicts.

    Args:
        evidence: What the run rests on.

    Returns:
        Opponent to figures, see `judge_figures`; nothing where no model judged.
    """
    found = {}
    for path in sorted(locate(evidence.decision, "").glob("judge_*.jsonl")):
        stage = path.stem.removeprefix("judge_")
        found[JUDGED_SIDES.get(stage, stage)] = judge_figures(read_jsonl(path))
    return found
