"""Runs that do not go on: those whose process or machine ended, and those that are late.

Flow runs send heartbeats, but Prefect's server does not act on them by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flows.services.occasions import FLOWS, TAG

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

AUTOMATION = "sft-flow: run without heartbeat"
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Failed", "TimedOut", "Rejected", "Cancelled", "Crashed", "Suspended")
"""States in which a run sends no heartbeats any more."""
DEFAULT_SECONDS = 180
"""Prefect's own time between two heartbeats."""
MISSED = 3
MAX_RUNS = 200
RUN_PREFIX = "prefect.flow-run."


def silence_limit() -> timedelta:
    """Return how long a run may send no heartbeat: three times `PREFECT_FLOWS_HEARTBEAT_FREQUENCY`."""
    from prefect.settings import get_current_settings

    seconds = get_current_settings().flows.heartbeat_frequency or DEFAULT_SECONDS
    return timedelta(seconds=MISSED * seconds)


def watch_heartbeats(client: SyncPrefectClient, limit: timedelta | None = None) -> None:
    """Let the server mark runs of our flows Crashed that send no heartbeat for a time.

    Args:
        client: Client of the server.
        limit: The time; `silence_limit` by default.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    limit = limit or silence_limit()
    automation = AutomationCore(
        name=AUTOMATION,
        description="Created by `sft-flow up` and `sft-flow notify`.",
        tags=[TAG],
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"{RUN_PREFIX}{state}" for state in ENDS)},
            match=ResourceSpecification({"prefect.resource.id": f"{RUN_PREFIX}*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=limit,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=_message(limit))],
    )
    present = client.read_automations_by_name(AUTOMATION)
    if present:
        client.update_automation(present[0].id, automation)
    else:
        client.create_automation(automation)


def stop_watching(client: SyncPrefectClient) -> None:
    """Remove the automation of `watch_heartbeats`."""
    for found in client.read_automations_by_name(AUTOMATION):
        client.delete_automation(found.id)


def find_dead_runs(client: SyncPrefectClient, limit: timedelta | None = None) -> list[FlowRun]:
    """Find the runs of our flows that run or wait for an answer, with a last heartbeat too long ago.

    Args:
        client: Client of the server.
        limit: How long that may be; `silence_limit` by default.

    Returns:
        The runs; none of those whose heartbeats are turned off.
    """
    running = _runs_in(client, "Running", "Paused")
    oldest = datetime.now(UTC) - (silence_limit() if limit is None else limit)
    last = {run.id: last_heartbeat(client, run) for run in running}
    return [run for run in running if (found := last[run.id]) and found < oldest]


def find_late_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Find the runs of our flows that are late: no worker has started them."""
    return _runs_in(client, "Late")


def _runs_in(client: SyncPrefectClient, *states: str) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter

    return client.read_flow_runs(
        flow_filter=FlowFilter.model_validate({"name": {"any_": FLOWS}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"name": {"any_": states}}}),
        limit=MAX_RUNS,
    )


def mark_crashed(client: SyncPrefectClient, limit: timedelta | None = None) -> list[FlowRun]:
    """Mark the runs of `find_dead_runs` Crashed, also those of a time without `watch_heartbeats`.

    Args:
        client: Client of the server.
        limit: How long a run may send no heartbeat; `silence_limit` by default.

    Returns:
        The runs.
    """
    from prefect.states import Crashed

    limit = silence_limit() if limit is None else limit
    dead = find_dead_runs(client, limit)
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message=_message(limit)))
    return dead


def _message(limit: timedelta) -> str:
    return f"no heartbeat for {limit.total_seconds():.0f} s: the process or its machine ended"


def last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """Return the time of a run's last heartbeat; None if the server has none."""
    from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"{RUN_PREFIX}{run.id}"]),
    )
    found = client.read_events(wanted, limit=1).events
    return found[0].occurred if found else None
