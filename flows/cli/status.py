"""`sft-flow status` and `report`: the last run, its outputs and its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    echo,
    keep_stdout_clean,
    plain_table,
    print_json,
    quiet_libraries,
    terminal_width,
)
from flows.cli.options import config_options, debug_option, json_option
from schemas.base import Record
from schemas.config.run import RunConfig
from schemas.errors import SftFlowError, WorkDirectoryError
from schemas.records.stages import Stage
from tasks.engine.cache import MANIFEST
from tasks.engine.home import has_store, work_directory
from tasks.engine.journal import StageEntry, last_flow_run_id, read_entries
from tasks.engine.wording import mebibytes


class LastOutput(Record):
    """The newest output of one stage."""

    stage: Stage
    folder: str
    n_bytes: int


class StatusReport(Record):
    """Everything that `sft-flow status` shows."""

    work_directory: str
    flow_run_id: str | None
    stages: tuple[StageEntry, ...]
    outputs: tuple[LastOutput, ...]
    registered_name: str
    alias: str
    champion_version: int | None
    registry_problem: str
    """Why the registry could not be read; empty when it could, or there is none yet."""


def read_status(config: RunConfig) -> StatusReport:
    """Collect the state of the work directory, and of the registry named in `config`."""
    flow_run_id = last_flow_run_id()
    champion, problem = find_champion(config)
    return StatusReport(
        work_directory=str(work_directory()),
        flow_run_id=flow_run_id,
        stages=tuple(read_entries(flow_run_id)) if flow_run_id else (),
        outputs=tuple(found for stage in Stage if (found := last_output(stage))),
        registered_name=config.registry.name,
        alias=config.registry.alias,
        champion_version=champion,
        registry_problem=problem,
    )


def find_champion(config: RunConfig) -> tuple[int | None, str]:
    """Return the version that has the alias, or None with the reason; never creates a store."""
    if not has_store():
        return None, ""
    from tasks.registry.aliases import settle_aliases
    from tasks.registry.store import alias_holder, connect, store_errors

    try:
        client = connect()
        with store_errors():
            settle_aliases(client, config.registry.name)
            return alias_holder(client, config.registry.name, config.registry.alias), ""
    except SftFlowError as error:
        return None, str(error)


def newest_output(stage: Stage) -> Path | None:
    """Return the folder that a stage wrote last; None when it never succeeded here."""
    manifests = list((work_directory() / "stages" / stage).glob(f"[!.]*/{MANIFEST}"))
    return max(manifests, key=lambda path: path.stat().st_mtime).parent if manifests else None


def last_output(stage: Stage) -> LastOutput | None:
    """Return folder and size of the output that a stage wrote last, if there is one."""
    folder = newest_output(stage)
    if folder is None:
        return None
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return LastOutput(stage=stage, folder=str(folder), n_bytes=n_bytes)


def read_report() -> tuple[Path, dict[str, Any]]:
    """Find the newest report.

    Returns:
        The page's path and the contents of `report.json`.

    Raises:
        WorkDirectoryError: No run has written a report here.
    """
    folder = newest_output(Stage.PUBLISH_REPORT)
    if folder is None:
        raise WorkDirectoryError(
            "there is no report yet",
            where=str(work_directory()),
            expected="the output of a finished run",
            got="none",
            fix="run `sft-flow run`, or set SFT_HOME to the work directory of an earlier run",
        )
    return folder / "report.html", open_report(folder)


def open_report(folder: Path) -> dict[str, Any]:
    """Read one report.

    Args:
        folder: Output of `publish_report`.

    Returns:
        Contents of `report.json`.

    Raises:
        WorkDirectoryError: The file is gone or damaged.
    """
    try:
        document: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
        return document
    except (OSError, ValueError) as error:
        raise WorkDirectoryError(
            "the report is damaged",
            where=str(folder),
            expected="report.json as it was written",
            got=type(error).__name__,
            fix="run `sft-flow run` again: the damaged output is written again, the rest is a HIT",
        ) from error


def show_status(status: StatusReport) -> None:
    """Print what `read_status` found."""
    echo(f"Work directory: {status.work_directory}")
    echo(f"Last run:       {status.flow_run_id or 'none yet'}")
    width = terminal_width()
    if status.stages:
        rows = [
            [f"{entry.at.astimezone():%d %b %H:%M:%S}", entry.event, entry.stage, entry.detail]
            for entry in status.stages
        ]
        echo("\n".join(plain_table(["at", "", "stage", "reason"], rows, width)))
    if status.outputs:
        echo()
        sizes = [[out.stage.value, mebibytes(out.n_bytes), out.folder] for out in status.outputs]
        echo("\n".join(plain_table(["last output of", "size", "folder"], sizes, width)))
    echo()
    holder = f"version {status.champion_version}" if status.champion_version else "none yet"
    echo(f"{status.registered_name}@{status.alias}: {holder}")
    if status.registry_problem:
        echo(status.registry_problem)


@click.command()
@click.argument("name", required=False)
@config_options
@json_option
def status(
    name: str | None, config_path: Path | None, overrides: Sequence[str], is_json: bool
) -> None:
    """Show the last run and the current champion.

    With NAME: its aliases, metrics and training data.
    """
    from schemas.config.file import load_config

    names = (f"registry.name={name}",) if name else ()
    config = load_config(config_path, (*overrides, *names))
    quiet_libraries()
    if name:
        from flows.cli.registry_status import read_registry_status, show_registry_status

        with keep_stdout_clean():
            registered = read_registry_status(config.registry)
        show_registry_status(registered, is_json=is_json)
        return

    with keep_stdout_clean():
        found = read_status(config)
    if is_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_status(found)


@click.command()
@click.option("--open", "is_opened", is_flag=True, help="Open it in a browser.")
@json_option
@debug_option
def report(is_opened: bool, is_json: bool) -> None:
    """Print the path of the newest report."""
    page, document = read_report()
    if is_json:
        print_json({"path": str(page), **document})
    else:
        echo(str(page))
    if is_opened:
        click.launch(page.as_uri())
