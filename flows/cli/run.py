"""`sft-flow run`: the flow, and its result in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    EXIT_REFUSED,
    echo,
    is_debug,
    keep_stdout_clean,
    print_json,
    print_table,
    quiet_libraries,
)
from flows.cli.options import config_options, json_option, refresh_option
from schemas.records.stages import Stage
from tasks.engine.home import tracking_uri
from tasks.engine.local_server import local_url, loopback
from tasks.engine.redaction import without_secrets
from tasks.engine.wording import duration, interval, number, optional_share, signed_number

N_ANSWERS = 3
MAX_ANSWER_CHARACTERS = 400


def show_report(report: Mapping[str, Any], page: Path, champion: int | None) -> None:
    """Print the result of a run: metrics, answers, decision, and where to look further.

    Args:
        report: Contents of `report.json`.
        page: The HTML page.
        champion: Version that is champion now; None if unknown.
    """
    metrics = report["metrics"]
    names = list(dict.fromkeys(name for role in metrics.values() for name in role))
    rows = [[name, *(number(role.get(name)) for role in metrics.values())] for name in names]
    echo()
    print_table(["metric", *metrics], rows, title="Held-out rows")
    answers = report["answers"][:N_ANSWERS]
    columns = ("prompt", "reference", *metrics)
    if answers:
        echo()
        cells = [[shorten(str(answer[name])) for name in columns] for answer in answers]
        print_table(columns, cells, title="Answers side by side")
    show_gates(report)
    echo()
    echo(training_line(report["training"]))
    show_decision(report, champion)
    echo(f"Report: {page}")
    echo(f"Pages:  sft-flow up       then {local_url(4200)}")
    uri = report["registry"].get("tracking_uri") or without_secrets(tracking_uri())
    echo(f"        {mlflow_command(uri)}")


def training_line(training: Mapping[str, Any]) -> str:
    """Return steps, time, speed and notes of that part of `report.json` as one line."""
    parts = [
        f"Training: {training['n_steps']:,} steps on {training['device']}, "
        f"{duration(training['seconds'])}, {training['tokens_per_second']:,.0f} tokens/s"
    ]
    if training.get("resumed_from_step"):
        parts.append(f"resumed from step {training['resumed_from_step']:,}")
    return "; ".join([*parts, *training.get("notes", ())])


def mlflow_command(uri: str) -> str:
    """Return the command that shows the registry, or the address of a server that runs."""
    if uri.startswith(("http://", "https://")):
        return f"MLflow is at {uri}"
    return (
        f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host {loopback()} --port 5000"
        f"       then {local_url(5000)}"
    )


def show_gates(report: Mapping[str, Any]) -> None:
    """Print the result of each gate in `report.json`."""
    if not report["gates"]:
        return
    rows = [
        [
            gate["verdict"],
            gate["id"],
            signed_number(gate["gain"]),
            interval(gate["interval_low"], gate["interval_high"]),
            optional_share(gate["confidence"]),
            gate["reason"],
        ]
        for gate in report["gates"]
    ]
    echo()
    print_table(["", "gate", "gain", "interval", "level", "reason"], rows)


def show_decision(report: Mapping[str, Any], champion: int | None) -> None:
    """Print the decision of `report.json` with its reason, and which version has the alias now.

    The report may be one of an earlier run: another version may have been promoted since then.
    """
    registry = report["registry"]
    mode = " (dry run)" if report["mode"] == "dry_run" else ""
    echo(f"Decision: {report['decision'].upper()}{mode} - {report['reason']}")
    for note in report.get("notes", []):
        echo(f"Note: {note}")
    name, version, alias = registry["name"], registry["version"], registry["alias"]
    previous = registry["previous_version"]
    if registry["is_promoted"] and champion not in (None, version):
        echo(f"Model: {name} version {version} was promoted; version {champion} is {alias} now")
    elif registry["is_promoted"]:
        before = f" (before: version {previous})" if previous else ""
        echo(f"Model: {name} version {version} is {alias}{before}, models:/{name}@{alias}")
    elif version is None:
        echo("Model: not registered")
    else:
        holder = champion or previous
        kept = f"version {holder} is {alias}" if holder else f"no version is {alias}"
        echo(f"Model: {name} version {version} is registered, {kept}")


def shorten(text: str) -> str:
    """Cut an answer to 400 characters for the table; the report has all of it."""
    text = text.strip()
    return text if len(text) <= MAX_ANSWER_CHARACTERS else f"{text[: MAX_ANSWER_CHARACTERS - 1]}…"


@click.command(short_help="Train a model; promote it if it passes the gates.")
@config_options
@refresh_option
@click.option(
    "--plain", "is_plain", is_flag=True, help="Print plain lines instead of the live screen."
)
@json_option
def run(
    config_path: Path | None,
    overrides: Sequence[str],
    refresh: Sequence[str],
    is_plain: bool,
    is_json: bool,
) -> None:
    """Train, evaluate and register a model, and promote it if it passes the gates.

    Stages that are cached are not run again.
    """
    from schemas.config.file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    from flows.cli.failures import short_failures
    from flows.cli.screen import run_screen
    from flows.services.temporary_server import prefect_api

    with (
        keep_stdout_clean(),
        run_screen(is_wanted=not is_plain) as screen,
        prefect_api(),
        short_failures(is_wanted=not is_debug()),
    ):
        from flows.train_sft import train_sft

        if screen:
            screen.adopt_logging()
        reference = train_sft(config, tuple(Stage(name) for name in refresh))
    from flows.cli.status import find_champion, open_report
    from tasks.engine.cache import locate

    report = open_report(locate(reference, "report.json").parent)
    if is_json:
        print_json(report)
    else:
        champion, _ = find_champion(config)
        show_report(report, locate(reference, "report.html"), champion)
    if report["decision"] == "refuse" and report["mode"] == "enforce":
        click.get_current_context().exit(EXIT_REFUSED)
