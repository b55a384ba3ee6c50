"""Prefect's progress bar of a run: one artifact, updated at every stage and while a stage runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext

from schemas.records.stages import Stage
from tasks.engine.keys import slug
from tasks.engine.progress import open_progress
from tasks.engine.pusher import Pusher

LAST_STAGES = {
    "train-sft": Stage.PUBLISH_REPORT,
    "retrain": Stage.PUBLISH_REPORT,
    "check-data": Stage.CHECK_QUALITY,
}
"""Flow to the stage it ends with; other flows get no bar."""
COMPLETE = 100.0
PUSH_SECONDS = 5.0
CLOSE_SECONDS = 5.0
LOGGER = logging.getLogger(__name__)


@dataclass
class Bar:
    """The artifact of one run."""

    artifact_id: UUID
    percent: float
    description: str


BARS: dict[UUID, Bar] = {}
"""By flow run, until the run ends."""


@contextmanager
def show_stage(stage: str) -> Iterator[None]:
    """Update the bar of the current flow run before, while and after a stage runs.

    A request takes some milliseconds. A stage that a run visits again, as a repeated decision does,
    leaves the bar where it is.
    """
    number, n_stages = place(stage)
    if not number:
        yield
        return
    title = f"{stage}, {number} of {n_stages}"
    move(COMPLETE * (number - 1) / n_stages, title)

    def push() -> None:
        work = open_progress()
        if work:
            percent = COMPLETE * (number - 1 + work.fraction) / n_stages
            move(percent, f"{title}; {work.label}: {work}")

    pusher = Pusher(push, name="progress", every_seconds=PUSH_SECONDS, warn=LOGGER.debug)
    pusher.start()
    try:
        yield
    except BaseException:
        pusher.close(CLOSE_SECONDS)
        move(0.0, f"stopped at {title}")
        raise
    pusher.close(CLOSE_SECONDS)
    if number == n_stages:
        move(COMPLETE, "done")


def finish_progress(description: str) -> None:
    """Fill the bar of a run that ends before its last stage; the description is the reason."""
    move(COMPLETE, description)


def forget_progress() -> None:
    """Drop the current run's bar as the run ends, however it does; Prefect keeps the artifact."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        BARS.pop(context.flow_run.id, None)


def place(stage: str) -> tuple[int, int]:
    """Return a stage's number from 1 and the current flow's number of stages; 0, 0 without a bar."""
    context = FlowRunContext.get()
    last = LAST_STAGES.get(context.flow.name) if context and context.flow else None
    stages = list(Stage)
    if last is None or stage not in stages:
        return 0, 0
    n_stages = stages.index(last) + 1
    number = stages.index(Stage(stage)) + 1
    return (number, n_stages) if number <= n_stages else (0, 0)


def move(percent: float, description: str) -> None:
    """Create or update the bar; a bar never goes back, and never fails a run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run_id, client = context.flow_run.id, context.client
    bar = BARS.get(run_id)
    percent = max(percent, bar.percent if bar else 0.0)
    if bar and (bar.percent, bar.description) == (percent, description):
        return
    try:
        if not isinstance(client, SyncPrefectClient):
            return
        if bar is None:
            name = context.parameters["config"].registry.name if context.parameters else ""
            made = client.create_artifact(
                ArtifactCreate(
                    key=f"{slug(name)}-progress",
                    type="progress",
                    data=percent,
                    description=description,
                    flow_run_id=run_id,
                )
            )
            BARS[run_id] = Bar(made.id, percent, description)
        else:
            client.update_artifact(
                bar.artifact_id, ArtifactUpdate(data=percent, description=description)
            )
            bar.percent, bar.description = percent, description
    except Exception as error:
        LOGGER.debug("no progress bar: %s", error)
