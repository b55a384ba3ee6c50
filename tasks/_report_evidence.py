"""What the report shows besides figures: rows as the model saw them, times, links, the judge."""

from __future__ import annotations

from typing import Any

from schemas.records import Evidence
from tasks._report_answers import judge_figures
from tasks.engine.cache import locate
from tasks.engine.journal import read_entries
from tasks.engine.jsonl import read_jsonl
from tasks.registry.lineage import flow_run_tags
from tasks.tokens.rendering import load_renderer
from tasks.tokens.view import view_rows

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
