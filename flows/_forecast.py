"""What the gates will refuse whatever the training gives, told before the training."""

from __future__ import annotations

from prefect.logging import get_run_logger

from flows.check_data import GatedRows
from schemas.config.gates import Against, DecisionMode
from schemas.config.run import RunConfig
from schemas.metrics import is_per_token
from schemas.rule_ids import Severity
from tasks.dataset.trained_rows import collect_trained_rows, find_seen_rows
from tasks.engine.cache import locate
from tasks.engine.jsonl import read_jsonl
from tasks.engine.stage import retried_task
from tasks.registry.champion import find_opponent


@retried_task
def warn_of_refusals(config: RunConfig, rows: GatedRows) -> None:
    """Log a warning for each comparison with today's champion that cannot be won.

    The run goes on: another version can be champion when it decides.

    Args:
        config: Settings of the run.
        rows: The rows that passed the data gate.
    """
    if config.gates.mode is DecisionMode.OFF:
        return
    for sentence in find_refusals(config, rows):
        get_run_logger().warning("the gates will refuse this run: %s", sentence)


def find_refusals(config: RunConfig, rows: GatedRows) -> list[str]:
    """Find why the gates would refuse any challenger, as the champion is now.

    Args:
        config: Settings of the run.
        rows: The rows that passed the data gate.

    Returns:
        A sentence for each reason.
    """
    opponent = find_opponent(config.registry, "")
    if opponent is None:
        return []
    blocking = [
        gate
        for gate in config.gates.definitions
        if gate.against is Against.CHAMPION and gate.severity is Severity.BLOCK
    ]
    found = []
    per_token = [gate.id for gate in blocking if is_per_token(gate.metric)]
    if per_token and opponent.template_sha256 not in ("", rows.template.template_sha256):
        found.append(
            f"champion version {opponent.version} was trained with another chat template, and "
            f"{', '.join(per_token)} compares what was measured in this one; restore the template, "
            "or gate a metric of the answers instead"
        )
    prompts = locate(rows.quality, "eval_prompts.jsonl")
    own = collect_trained_rows(rows.split, rows.template)
    seen = find_seen_rows(prompts, own, opponent.address)
    left_out = {*seen.challenger, *seen.champion}
    groups = {row["group"] for row in read_jsonl(prompts) if row["row"] not in left_out}
    if blocking and left_out and len(groups) < config.gates.min_eval_rows:
        found.append(
            f"{len(left_out)} held-out rows were trained by champion version {opponent.version} or "
            f"by the model that this run continues from, which leaves {len(groups)} of at least "
            f"{config.gates.min_eval_rows} (gates.min_eval_rows); restore split.seed and "
            "split.eval_fraction, or pin new rows"
        )
    return found
