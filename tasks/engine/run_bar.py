"""A bar in Prefect that says how far a run is: one artefact per run, moved on at every stage."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext

from schemas.records.stages import Stage

LAST_STAGES = {
    "train-sft": Stage.PUBLISH_REPORT,
    "retrain": Stage.PUBLISH_REPORT,
    "check-data": Stage.CHECK_QUALITY,
}
"""Flow to the stage it ends with; other flows get no bar."""
WHOLE = 100.0
LOGGER = logging.getLogger(__name__)

DIGEST_DIGITS = 6


@dataclass
class Bar:
    """The artefact of one run."""

    artifact_id: UUID
    percent: float


BARS: dict[UUID, Bar] = {}
"""By flow run, until the run ends."""


@contextmanager
def show_stage(stage: str) -> Iterator[None]:
    """Move the bar of the current flow run on while a stage runs.

    Two requests of some milliseconds each at most. A stage that a run visits again, as a decision
    made anew does, leaves the bar where it is.

    Args:
        stage: Name of the stage.

    Yields:
        Nothing.
    """
    number, n_stages = place(stage)
    if not number:
        yield
        return
    move(WHOLE * (number - 1) / n_stages, f"{stage}, {number} of {n_stages}")
    try:
        yield
    except BaseException:
        move(0.0, f"stopped at {stage}, {number} of {n_stages}")
        raise
    if number == n_stages:
        move(WHOLE, "done")


def finish_progress(description: str) -> None:
    """Fill the bar of a run that ends before its last stage.

    Args:
        description: Why there is nothing more to do.
    """
    move(WHOLE, description)


def forget_progress() -> None:
    """Let go of the current run's bar as the run ends, however it does; Prefect keeps it."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        BARS.pop(context.flow_run.id, None)


def place(stage: str) -> tuple[int, int]:
    """Find a stage among those of the current flow.

    Args:
        stage: Name of the stage.

    Returns:
        Its number from 1 and the number of stages; 0 and 0 without a bar.
    """
    context = FlowRunContext.get()
    last = LAST_STAGES.get(context.flow.name) if context and context.flow else None
    stages = list(Stage)
    if last is None or stage not in stages:
        return 0, 0
    n_stages = stages.index(last) + 1
    number = stages.index(Stage(stage)) + 1
    return (number, n_stages) if number <= n_stages else (0, 0)


def move(percent: float, description: str) -> None:
    """Create or update the bar; a bar never goes back, and never fails a run.

    Args:
        percent: How far the run is.
        description: What it is doing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run_id, client = context.flow_run.id, context.client
    bar = BARS.get(run_id)
    percent = max(percent, bar.percent if bar else 0.0)
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
            BARS[run_id] = Bar(made.id, percent)
        else:
            client.update_artifact(
                bar.artifact_id, ArtifactUpdate(data=percent, description=description)
            )
            bar.percent = percent
    except Exception as error:
        LOGGER.debug("no progress bar: %s", error)


def slug(name: str) -> str:
    """Make of a registered name what Prefect accepts as the beginning of an artefact's key.

    Args:
        name: Registered model name.

    Returns:
        Lowercase letters, digits and dashes. A name that is not of these alone gets some digits
        of its sha256, so that "FAQ 1" and "faq-1" do not share a history.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:DIGEST_DIGITS]}"
