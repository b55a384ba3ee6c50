"""One deployed run at a time for each registered name, across all deployments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger
from prefect.runtime import deployment

LIMIT_PREFIX = "sft-flow "
"""Followed by the registered name: the global concurrency limit in Prefect."""
LEASE_SECONDS = 120.0
"""The slot of a run that died is released after this time; an active run renews its lease."""


@contextlib.contextmanager
def one_run_at_a_time(name: str) -> Iterator[None]:
    """Wait for other deployed runs of a registered name, then occupy its slot.

    A deployment's own limit counts the runs of that deployment only. Runs from the command line
    do not wait: single stages and promotions are locked instead.
    """
    if not deployment.get_id():
        yield
        return
    limit = f"{LIMIT_PREFIX}{name}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit, 1)
    get_run_logger().info("waiting for other runs of %s to end, if there are any", name)
    with concurrency(limit, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield
