"""`sft-flow plan`: what would run, why, and about how long the training would take."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from schemas.records import DatasetReference, QualityReference, Record, TemplateReference
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks._cache import Lookup, locate
from tasks._training_speed import tokens_per_second

CHARACTERS_PER_TOKEN = 4.0
"""Rough figure for English text, used until the rows were tokenised once."""


class PlannedStage(Record):
    """What one stage would do."""

    stage: Stage
    outcome: str
    """HIT or RUN."""
    reason: str


class Estimate(Record):
    """Size of the training; every figure but those of tokenised rows is a guess and says so."""

    n_train_rows: int
    n_train_tokens: int
    n_steps: int
    n_tokens_seen: int
    seconds: float
    basis: str
    """Where the figures come from."""


class PlanReport(Record):
    """Everything `sft-flow plan` says."""

    stages: tuple[PlannedStage, ...]
    estimate: Estimate | None
    """None when nothing is known of the rows yet."""


def make_plan(config: RunConfig, refresh: Sequence[Stage]) -> PlanReport:
    """Walk through the flow on the cache alone.

    Args:
        config: What would be run.
        refresh: Stages to compute anew.

    Returns:
        One entry per stage, and an estimate of the training when the rows are known.
    """
    lookups = _walk(config, refresh)
    by_stage = {found.key.stage: found for found in lookups}
    planned: list[PlannedStage] = []
    stopped_at = ""
    for stage in Stage:
        found = by_stage.get(stage)
        if found and found.reference:
            planned.append(PlannedStage(stage=stage, outcome="HIT", reason=_verified(found)))
        elif found:
            stopped_at = stage
            planned.append(PlannedStage(stage=stage, outcome="RUN", reason=found.reason))
        else:
            planned.append(
                PlannedStage(stage=stage, outcome="RUN", reason=f"comes after {stopped_at}")
            )
    return PlanReport(stages=tuple(planned), estimate=estimate_training(config, lookups))


def _verified(found: Lookup) -> str:
    return f"verified {found.n_files} files"


def _walk(config: RunConfig, refresh: Sequence[Stage]) -> list[Lookup]:
    from flows.train_sft import train_sft
    from tasks._stage import PLAN, Plan, PlanReached

    plan = Plan(refresh=frozenset(refresh))
    token = PLAN.set(plan)
    try:
        train_sft.fn(config, tuple(refresh))
    except PlanReached as reached:
        return [*plan.lookups[:-1], reached.lookup]
    finally:
        PLAN.reset(token)
    return plan.lookups


def estimate_training(config: RunConfig, lookups: Sequence[Lookup]) -> Estimate | None:
    """Estimate rows, tokens, steps and time of the training from what the cache holds.

    Args:
        config: What would be run.
        lookups: What the cache said of the stages.

    Returns:
        The estimate; None when the training would be a hit or the rows were never loaded.
    """
    references = [found.reference for found in lookups if found.reference]
    if any(reference.stage == Stage.TRAIN_MODEL for reference in references):
        return None
    quality = next((r for r in references if isinstance(r, QualityReference)), None)
    dataset = next((r for r in references if isinstance(r, DatasetReference)), None)
    if quality:
        n_rows, n_tokens = quality.n_train_rows, quality.n_train_tokens
        basis = "rows and tokens counted"
    elif dataset:
        share = 1 - config.split.eval_fraction
        n_rows = round(dataset.n_rows * share)
        n_tokens = round(_count_characters(dataset) / CHARACTERS_PER_TOKEN * share)
        basis = f"rows loaded, tokens guessed at {CHARACTERS_PER_TOKEN:.0f} characters each"
    else:
        return None
    template = next((r for r in references if isinstance(r, TemplateReference)), None)
    rate, origin = tokens_per_second(config, template.n_parameters if template else None)
    n_steps, n_seen = estimate_steps(config, n_rows, n_tokens)
    return Estimate(
        n_train_rows=n_rows,
        n_train_tokens=n_tokens,
        n_steps=n_steps,
        n_tokens_seen=n_seen,
        seconds=round(n_seen / rate, 1),
        basis=f"{basis}; {rate:.0f} tokens/s {origin}",
    )


def estimate_steps(config: RunConfig, n_rows: int, n_tokens: int) -> tuple[int, int]:
    """Count optimiser steps and the tokens they see, with packing taken as perfect.

    Args:
        config: Its training section counts.
        n_rows: Training rows.
        n_tokens: Their tokens together.

    Returns:
        Steps = ceil(epochs x ceil(sequences / effective batch)), or max_steps; and tokens.
    """
    training = config.training
    packed = math.ceil(n_tokens / training.packing_length_tokens)
    n_sequences = max(1, packed if training.packing else n_rows)
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    steps_per_epoch = math.ceil(n_sequences / batch)
    n_steps = training.max_steps or math.ceil(steps_per_epoch * training.num_train_epochs)
    return n_steps, round(n_tokens * n_steps / steps_per_epoch)


def _count_characters(dataset: DatasetReference) -> int:
    """Sum the length of every text in the loaded rows."""
    total = 0
    with locate(dataset, "rows.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            total += _text_length(json.loads(line).get("row"))
    return total


def _text_length(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_text_length(item) for item in value.values())
    if isinstance(value, list):
        return sum(_text_length(item) for item in value)
    return 0
