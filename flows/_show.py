"""Lays plans, reports and verdicts out for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flows._console import plain_table, print_table, terminal_width
from flows._plan import PlanReport
from flows._status import StatusReport
from schemas.rules import RuleResult
from tasks.engine.home import tracking_uri
from tasks.engine.wording import duration, figure, gibibytes
from tasks.training.plan.memory import describe
from tasks.training.plan.setup import TrainingSetup

N_ANSWERS = 3
MAX_ANSWER_CHARACTERS = 400


def show_report(report: Mapping[str, Any], page: Path) -> None:
    """Print the result of a run: figures, answers, decision, and where to look further.

    Args:
        report: What `report.json` holds.
        page: The HTML page.
    """
    metrics = report["metrics"]
    names = list(dict.fromkeys(name for side in metrics.values() for name in side))
    rows = [[name, *(figure(side.get(name)) for side in metrics.values())] for name in names]
    click.echo()
    print_table(["metric", *metrics], rows, title="Held-out rows")
    answers = report["answers"][:N_ANSWERS]
    columns = ("prompt", "reference", *metrics)
    if answers:
        click.echo()
        cells = [[shorten(str(answer[name])) for name in columns] for answer in answers]
        print_table(columns, cells, title="Answers side by side")
    show_gates(report)
    click.echo()
    click.echo(training_line(report["training"]))
    show_decision(report)
    click.echo(f"Report: {page}")
    click.echo("Pages:  prefect server start       then http://127.0.0.1:4200")
    uri = report["registry"].get("tracking_uri") or tracking_uri()
    click.echo(f"        {mlflow_command(uri)}")


def training_line(training: Mapping[str, Any]) -> str:
    """Sum the training up.

    Args:
        training: That part of `report.json`.

    Returns:
        One line: steps, time, speed, and what a reader should know.
    """
    parts = [
        f"Training: {training['n_steps']:,} steps on {training['device']}, "
        f"{duration(training['seconds'])}, {training['tokens_per_second']:,.0f} tokens/s"
    ]
    if training.get("resumed_from_step"):
        parts.append(f"resumed from step {training['resumed_from_step']:,}")
    return "; ".join([*parts, *training.get("notes", ())])


def mlflow_command(uri: str) -> str:
    """Say how to see the registry's page.

    Args:
        uri: The MLflow tracking URI.

    Returns:
        A command and an address, or only the address of a server that already runs.
    """
    if uri.startswith(("http://", "https://")):
        return f"MLflow is at {uri}"
    return (
        f"mlflow ui --backend-store-uri {uri} --host 127.0.0.1 --port 5000"
        "       then http://127.0.0.1:5000"
    )


def show_gates(report: Mapping[str, Any]) -> None:
    """Print what each gate found.

    Args:
        report: What `report.json` holds.
    """
    if not report["gates"]:
        return
    rows = [
        [gate["verdict"], gate["id"], figure(gate["gain"]), _interval(gate), gate["reason"]]
        for gate in report["gates"]
    ]
    click.echo()
    print_table(["", "gate", "gain", f"{report['confidence']:.0%} interval", "why"], rows)


def _interval(gate: Mapping[str, Any]) -> str:
    if gate["interval_low"] is None:
        return "-"
    return f"[{figure(gate['interval_low'])}, {figure(gate['interval_high'])}]"


def show_decision(report: Mapping[str, Any]) -> None:
    """Print the decision with its reason, and who holds the alias now.

    Args:
        report: What `report.json` holds.
    """
    registry = report["registry"]
    mode = " (dry run)" if report["mode"] == "dry_run" else ""
    click.echo(f"Decision: {report['decision'].upper()}{mode} - {report['reason']}")
    name, version, alias = registry["name"], registry["version"], registry["alias"]
    previous = registry["previous_version"]
    if registry["is_promoted"]:
        before = f" (before: version {previous})" if previous else ""
        click.echo(f"Model: {name} version {version} is {alias}{before}, models:/{name}@{alias}")
    elif version is None:
        click.echo("Model: not registered")
    else:
        kept = f"version {previous} stays {alias}" if previous else f"nobody is {alias}"
        click.echo(f"Model: {name} version {version} is registered, {kept}")
    if registry["n_freed_bytes"]:
        freed = registry["n_freed_bytes"] / 2**20
        click.echo(f"Freed: {freed:,.0f} MiB, the weights of old refused versions")


def shorten(text: str) -> str:
    """Cut a long answer for the table; the report has it whole.

    Args:
        text: An answer.

    Returns:
        At most 400 characters, with an ellipsis where it was cut.
    """
    text = text.strip()
    return text if len(text) <= MAX_ANSWER_CHARACTERS else f"{text[: MAX_ANSWER_CHARACTERS - 1]}…"


def show_plan(plan: PlanReport) -> None:
    """Print what would run and about how long it takes.

    Args:
        plan: What `make_plan` found.
    """
    rows = [[entry.outcome, entry.stage.value, entry.reason] for entry in plan.stages]
    print_table(["", "stage", "why"], rows)
    n_runs = sum(entry.outcome == "RUN" for entry in plan.stages)
    click.echo()
    if n_runs == 0:
        click.echo("Nothing to do: every stage would be a HIT.")
        return
    click.echo(f"{n_runs} of {len(plan.stages)} stages would run; one that comes after another")
    click.echo("is a HIT after all if what it reads comes out the same.")
    if plan.training:
        show_setup(plan.training)
    estimate = plan.estimate
    if estimate:
        click.echo(
            f"Training, estimated: {estimate.n_train_rows:,} rows, "
            f"{estimate.n_train_tokens:,} tokens, {estimate.n_steps:,} steps, "
            f"{duration(estimate.seconds)} ({estimate.basis})"
        )
    elif all(entry.outcome == "RUN" for entry in plan.stages):
        click.echo("Rows, tokens, steps and time are known once load_dataset has run.")


def show_setup(setup: TrainingSetup) -> None:
    """Print how the training would run and why, one line a choice, and the memory it takes.

    Args:
        setup: What `prepare_training` decided.
    """
    click.echo()
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
    print_table(["training", "", "why"], rows)
    for note in setup.notes:
        click.echo(f"Note: {note}")


def show_check(report: Any, page: Path, repaired: Path | None = None) -> None:
    """Print the verdict of the data gate.

    Args:
        report: A `CheckReport`.
        page: The HTML page.
        repaired: File with the kept rows, where one was written.
    """
    found = ", ".join(f"{count} {name}" for name, count in report.formats.items()) or "none"
    click.echo(f"Data {str(report.verdict).upper()}: {report.n_rows:,} rows, formats: {found}")
    click.echo(f"Kept {report.n_kept_rows:,}, quarantined {report.n_quarantined_rows:,}.")
    for name, count in report.conversions.items():
        click.echo(f"  {name.replace('_', ' ')}: {count:,}")
    if report.rules:
        click.echo()
        print_table(
            ["rule", "severity", "verdict", "rows", "observed", "limit", "where and how to mend"],
            [_rule_row(rule) for rule in report.rules],
        )
        click.echo()
    click.echo(f"Report: {page}")
    if repaired:
        click.echo(f"Kept rows: {repaired}")


def _rule_row(rule: RuleResult) -> list[str]:
    lines = [f"{place.file}:{place.line} {place.detail}" for place in rule.examples]
    numbers = [_whole_figure(rule.observed), _whole_figure(rule.limit)]
    notes = "\n".join([*lines, *([rule.fix] if rule.fix else [])])
    return [rule.id, rule.severity.value, rule.verdict.value, str(rule.n_rows), *numbers, notes]


def _whole_figure(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None and value.is_integer() else figure(value)


def show_status(status: StatusReport) -> None:
    """Print the state of the work directory.

    Args:
        status: What `read_status` found.
    """
    click.echo(f"Work directory: {status.work_directory}")
    click.echo(f"Last run:       {status.flow_run_id or 'none yet'}")
    width = terminal_width()
    if status.stages:
        rows = [
            [f"{entry.at.astimezone():%d %b %H:%M:%S}", entry.event, entry.stage, entry.detail]
            for entry in status.stages
        ]
        click.echo("\n".join(plain_table(["at", "", "stage", "why"], rows, width)))
    if status.outputs:
        click.echo()
        sizes = [
            [out.stage.value, f"{out.n_bytes / 2**20:.1f} MiB", out.folder]
            for out in status.outputs
        ]
        click.echo("\n".join(plain_table(["last output of", "size", "folder"], sizes, width)))
    click.echo()
    holder = f"version {status.champion_version}" if status.champion_version else "none yet"
    click.echo(f"{status.registered_name}@{status.alias}: {holder}")
    if status.registry_problem:
        click.echo(status.registry_problem)
