"""Runs of a deployment that no worker has started for hours, on a real Prefect server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from flows._late_runs import LATE, yields_to_newer

pytestmark = pytest.mark.integration

DONE: list[str] = []


@flow(name="retrain")
@yields_to_newer
def retrain(name: str = "toy") -> None:
    """Note which data was read."""
    DONE.append(name)


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    DONE.clear()
    with get_client(sync_client=True) as found:
        yield found


def plan(
    client: SyncPrefectClient, deployment: UUID, *hours: float, **parameters: Any
) -> list[FlowRun]:
    """Create runs that were due some hours ago."""
    now = datetime.now(UTC)
    planned = []
    for hour in hours:
        state: State[Any] = Scheduled(scheduled_time=now - timedelta(hours=hour))
        planned.append(
            client.create_flow_run_from_deployment(deployment, state=state, parameters=parameters)
        )
    return planned


def run(client: SyncPrefectClient, planned: FlowRun) -> str:
    """Run one as a worker does, and return its final state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT__FLOW_RUN_ID", str(planned.id))
        run_flow(retrain, flow_run=client.read_flow_run(planned.id), return_type="state")
    return client.read_flow_run(planned.id).state_name or ""


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    return client.create_deployment(client.create_flow(retrain), f"late-{datetime.now(UTC)}")


def test_of_the_late_runs_only_the_newest_runs(client: SyncPrefectClient, deployment: UUID) -> None:
    oldest, *others, newest = plan(client, deployment, 6, 5, 4, 3, 2, 1)
    (tomorrow,) = plan(client, deployment, -24)
    (another,) = plan(client, deployment, 2, name="another")
    assert run(client, oldest) == "Cancelled"
    states = [client.read_flow_run(one.id) for one in others]
    assert Counter(one.state_name for one in states) == {"Cancelled": len(others)}
    for one in (client.read_flow_run(oldest.id), *states):
        assert one.state
        assert newest.name in (one.state.message or "")
    assert DONE == []
    assert run(client, newest) == "Completed"
    assert run(client, another) == "Completed"
    assert DONE == ["toy", "another"]
    assert client.read_flow_run(tomorrow.id).state_name == "Scheduled"


def test_run_that_is_hardly_late_runs(client: SyncPrefectClient, deployment: UUID) -> None:
    hour = LATE / timedelta(hours=1)
    first, second = plan(client, deployment, 0.9 * hour, 0.5 * hour)
    assert (run(client, first), run(client, second)) == ("Completed", "Completed")
