"""`sft-flow plan`: what would run, why, and about how long the training would take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, print_table, quiet_libraries
from flows.cli.options import config_options, json_option, refresh_option
from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.records.references import (
    DatasetReference,
    QualityReference,
    StageReference,
    TemplateReference,
)
from schemas.records.stages import Stage
from tasks.engine.cache import Lookup, locate
from tasks.engine.wording import gibibytes, span
from tasks.evaluation.server import require_server
from tasks.models.shape import read_model_shape
from tasks.training.plan.accelerate_file import with_accelerate_file
from tasks.training.plan.machine import Machine, examine_machine
from tasks.training.plan.memory import describe
from tasks.training.plan.setup import TrainingSetup, Workload, prepare_training, read_workload
from tasks.training.plan.speed import estimate_steps, expected_speed

CHARACTERS_PER_TOKEN = 4.0
"""Rough value for English text, used until the rows were tokenised once."""

Found = TypeVar("Found", bound=StageReference)


class PlannedStage(Record):
    """What one stage would do."""

    stage: Stage
    outcome: str
    """HIT or RUN."""
    reason: str


class Estimate(Record):
    """Size of the training; estimated, except for rows that were tokenised."""

    n_train_rows: int
    n_train_tokens: int
    n_steps: int
    n_tokens_seen: int
    tokens_per_second: float
    seconds: float
    basis: str
    """Where the numbers come from."""


class PlanReport(Record):
    """Everything that `sft-flow plan` shows."""

    stages: tuple[PlannedStage, ...]
    estimate: Estimate | None
    """None when the rows were never loaded."""
    training: TrainingSetup | None = None
    """How the training would run; None when it would not."""


def make_plan(config: RunConfig, refresh: Sequence[Stage]) -> PlanReport:
    """Walk through the flow with the cache only.

    Args:
        config: What would run.
        refresh: Stages to compute again.

    Returns:
        One entry per stage, how the training would run, and an estimate when the rows are known.

    Raises:
        ConfigError: Training or evaluation server cannot run on this machine as configured.
        MemoryExhausted: The training does not fit into this machine's memory.
    """
    require_server(config.evaluation.server)
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
    references = [found.reference for found in lookups if found.reference]
    if any(reference.stage == Stage.TRAIN_MODEL for reference in references):
        return PlanReport(stages=tuple(planned), estimate=None)
    training = with_accelerate_file(config.training)
    machine = examine_machine(training.device, training.processes)
    return PlanReport(
        stages=tuple(planned),
        estimate=estimate_training(config, references, machine.device),
        training=plan_training(config, references, machine),
    )


def _verified(found: Lookup) -> str:
    return f"verified {found.n_files} files"


def _walk(config: RunConfig, refresh: Sequence[Stage]) -> list[Lookup]:
    from flows.train_sft import train_sft
    from tasks.engine.stage import look_ahead

    return look_ahead(lambda: train_sft.fn(config, tuple(refresh)), refresh)


def plan_training(
    config: RunConfig, references: Sequence[StageReference], machine: Machine
) -> TrainingSetup:
    """Decide how the training would run, as far as model and rows are known.

    Args:
        config: What would run.
        references: What is cached.
        machine: Where it would run.

    Returns:
        The setup.

    Raises:
        ConfigError: The training cannot run on this machine as configured.
        MemoryExhausted: The training does not fit into this machine's memory.
    """
    template = _first(references, TemplateReference)
    quality = _first(references, QualityReference)
    shape = read_model_shape(locate(template, "model")) if template else None
    workload = None
    if quality:
        workload = read_workload(locate(quality, "train_tokens.parquet"))
    elif rows := _guess_rows(config, references):
        n_rows, n_tokens = rows
        longest = 0 if config.training.packing else config.quality.max_length_tokens
        workload = Workload(n_rows=n_rows, n_tokens=n_tokens, longest_row_tokens=longest)
    return prepare_training(config.training, machine, shape, workload)


def estimate_training(
    config: RunConfig, references: Sequence[StageReference], device: str
) -> Estimate | None:
    """Estimate rows, tokens, steps and time of the training from what is cached.

    None when the rows were never loaded.
    """
    quality = _first(references, QualityReference)
    guessed = None if quality else _guess_rows(config, references)
    if quality:
        n_rows, n_tokens = quality.n_epoch_rows, quality.n_epoch_tokens
        basis = "rows and tokens counted"
    elif guessed:
        n_rows, n_tokens = guessed
        basis = f"rows loaded, tokens guessed at {CHARACTERS_PER_TOKEN:.0f} characters each"
    else:
        return None
    template = _first(references, TemplateReference)
    n_parameters = template.n_parameters if template else None
    rate, origin = expected_speed(config.training, n_parameters, device)
    prefix = 0
    if quality and device == "cpu":  # elsewhere TRL packs, and shares nothing
        prefix = read_workload(locate(quality, "train_tokens.parquet")).prefix_tokens
    n_steps, n_seen = estimate_steps(config.training, n_rows, n_tokens, prefix)
    return Estimate(
        n_train_rows=n_rows,
        n_train_tokens=n_tokens,
        n_steps=n_steps,
        n_tokens_seen=n_seen,
        tokens_per_second=round(rate, 1),
        seconds=round(n_seen / rate, 1),
        basis=f"{basis}; {rate:.0f} tokens/s {origin}",
    )


def _first(references: Sequence[StageReference], kind: type[Found]) -> Found | None:
    return next((found for found in references if isinstance(found, kind)), None)


def _guess_rows(config: RunConfig, references: Sequence[StageReference]) -> tuple[int, int] | None:
    """Guess rows and tokens of the training split from the loaded rows."""
    dataset = _first(references, DatasetReference)
    if dataset is None:
        return None
    share = 1 - config.split.eval_fraction
    n_tokens = round(_count_characters(dataset) / CHARACTERS_PER_TOKEN * share)
    return round(dataset.n_rows * share), n_tokens


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


def show_plan(plan: PlanReport) -> None:
    """Print what would run and about how long it takes."""
    rows = [[entry.outcome, entry.stage.value, entry.reason] for entry in plan.stages]
    print_table(["", "stage", "reason"], rows)
    n_runs = sum(entry.outcome == "RUN" for entry in plan.stages)
    echo()
    if n_runs == 0:
        echo("Nothing to do: every stage would be a HIT.")
        return
    echo(f"{n_runs} of {len(plan.stages)} stages would run; one that comes after another")
    echo("is a HIT after all if what it reads comes out the same.")
    if plan.training:
        show_setup(plan.training)
    estimate = plan.estimate
    if estimate:
        echo(
            f"Training, estimated: {estimate.n_train_rows:,} rows, "
            f"{estimate.n_train_tokens:,} tokens, {estimate.n_steps:,} steps, "
            f"about {span(estimate.seconds)} ({estimate.basis})"
        )
    elif all(entry.outcome == "RUN" for entry in plan.stages):
        echo("Rows, tokens, steps and time are known once load_dataset has run.")


def show_setup(setup: TrainingSetup) -> None:
    """Print how the training would run, one line per choice with its reason, and its memory."""
    echo()
    rows = [
        [name.replace("_", " "), *described.split(": ", 1)]
        for name, described in setup.choices.described().items()
    ]
    batching, memory = setup.batching, setup.memory
    passes = f"sequences x {batching.accumulation} passes x {batching.processes} processes"
    rows.append(["batch", f"{batching.per_device}", f"{passes} = {batching.effective} a step"])
    if memory:
        room = f"{gibibytes(memory.available_bytes)} available: {describe(memory)}"
        rows.append(["memory", gibibytes(memory.total_bytes), f"estimated, of {room}"])
    else:
        rows.append(["memory", "-", "known once rows are loaded and prepare_template has run"])
    print_table(["training", "", "reason"], rows)
    for note in setup.notes:
        echo(f"Note: {note}")


@click.command(short_help="Show which stages would run, and why.")
@config_options
@refresh_option
@json_option
def plan(
    config_path: Path | None, overrides: Sequence[str], refresh: Sequence[str], is_json: bool
) -> None:
    """Show which stages would run and why, with tokens, memory and time of the training."""
    from schemas.config.file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()

    with keep_stdout_clean():
        planned = make_plan(config, tuple(Stage(name) for name in refresh))
    if is_json:
        print_json(planned.model_dump(mode="json"))
    else:
        show_plan(planned)
