"""Of the late runs of a deployment, only the newest runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

P = ParamSpec("P")
R = TypeVar("R")

LATE = timedelta(minutes=10)
"""A run that is less late runs as planned: a start takes less time, so a newer run always runs."""
MAX_RUNS = 200
"""Prefect returns no more at once; the next run sees the others."""


def yields_to_newer(run: Callable[P, R]) -> Callable[P, R]:
    """Cancel a deployed run that is late if a newer one with the same parameters is due, too.

    While no worker runs, the runs of a schedule become late, and Prefect would start every one of
    them later, oldest first. They all read the data of the time when they start.

    Args:
        run: Function of the flow.

    Returns:
        The function for `@flow`, with the same signature.
    """

    @functools.wraps(run)
    def newest(*args: P.args, **kwargs: P.kwargs) -> R:
        run_id = flow_run.get_id() if deployment.get_id() else None
        if run_id and (reason := give_way(UUID(run_id))):
            return cast(R, Cancelled(message=reason))
        return run(*args, **kwargs)

    return newest


def give_way(run_id: UUID) -> str:
    """Cancel all late runs but the newest.

    Args:
        run_id: Of the run that has started.

    Returns:
        Why this run has to end; empty if it is the newest, or not late.
    """
    with get_client(sync_client=True) as client:
        this, now = client.read_flow_run(run_id), datetime.now(UTC)
        if not this.expected_start_time or this.expected_start_time > now - LATE:
            return ""
        newer = [run for run in _due_runs(client, this, now) if run.parameters == this.parameters]
        if not newer:
            return ""
        newest, *others = newer
        reason = f"late; run {newest.name} of the same deployment and parameters is newer"
        for other in others:
            client.set_flow_run_state(other.id, Cancelled(message=reason))
    get_run_logger().warning(
        "%d late runs are cancelled, only the newest runs: %s", len(others) + 1, newest.name
    )
    return reason


def _due_runs(client: SyncPrefectClient, this: FlowRun, now: datetime) -> list[FlowRun]:
    """Return the runs of the same deployment that are due and newer, the newest first."""
    due = FlowRunFilter.model_validate(
        {
            "id": {"not_any_": [this.id]},
            "deployment_id": {"any_": [this.deployment_id]},
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": this.expected_start_time, "before_": now},
        }
    )
    return client.read_flow_runs(
        flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=MAX_RUNS
    )
