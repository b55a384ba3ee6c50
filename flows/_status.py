"""`sft-flow status` and `report`: what the last run did and what it left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas._base import Record
from schemas.errors import SftFlowError, WorkDirectoryError
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks.engine.cache import MANIFEST
from tasks.engine.home import has_store, work_directory
from tasks.engine.journal import StageEntry, last_flow_run_id, read_entries


class LastOutput(Record):
    """The newest output of one stage."""

    stage: Stage
    folder: str
    n_bytes: int


class StatusReport(Record):
    """Everything `sft-flow status` says."""

    work_directory: str
    flow_run_id: str | None
    stages: tuple[StageEntry, ...]
    outputs: tuple[LastOutput, ...]
    registered_name: str
    alias: str
    champion_version: int | None
    registry_problem: str
    """Why the registry could not be asked; empty when it answered or there is none yet."""


def read_status(config: RunConfig) -> StatusReport:
    """Collect the state of the work directory and of the registry.

    Args:
        config: Its registry section names the model and the alias.

    Returns:
        The report.
    """
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
    """Ask the registry which version holds the alias.

    Args:
        config: Its registry section counts.

    Returns:
        The version, or None with the reason; looking never makes a store.
    """
    if not has_store():
        return None, ""
    from tasks.registry.store import alias_holder, connect, store_errors

    try:
        client = connect()
        with store_errors():
            return alias_holder(client, config.registry.name, config.registry.alias), ""
    except SftFlowError as error:
        return None, str(error)


def newest_output(stage: Stage) -> Path | None:
    """Find the output a stage wrote last.

    Args:
        stage: The stage.

    Returns:
        Its folder; None when the stage never ended well here.
    """
    manifests = list((work_directory() / "stages" / stage).glob(f"[!.]*/{MANIFEST}"))
    return max(manifests, key=lambda path: path.stat().st_mtime).parent if manifests else None


def last_output(stage: Stage) -> LastOutput | None:
    """Describe the output a stage wrote last.

    Args:
        stage: The stage.

    Returns:
        Folder and size; None when there is none.
    """
    folder = newest_output(stage)
    if folder is None:
        return None
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return LastOutput(stage=stage, folder=str(folder), n_bytes=n_bytes)


def read_report() -> tuple[Path, dict[str, Any]]:
    """Find the newest report.

    Returns:
        The page's path and the report's figures.

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
    """Read the figures of one report.

    Args:
        folder: Output of `publish_report`.

    Returns:
        What `report.json` holds.

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
            fix="run `sft-flow run` again: the damaged output is made anew, the rest is a hit",
        ) from error
