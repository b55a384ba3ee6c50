"""Checks of `sft-flow doctor` on servers: Prefect with pools, workers and deployments, and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from flows.doctor.finding import Finding, Health
from flows.services.prefect_api import api_client, known_api
from schemas.errors import SftFlowError
from tasks.engine.home import tracking_uri
from tasks.engine.proxies import check_proxies
from tasks.engine.redaction import without_secrets

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL = "sft-local"
"""Default of `sft-flow up`, used if prefect.yaml names no pool."""
FLOWS = ("train-sft", "retrain", "check-data", "promote-model")


def check_prefect() -> Finding:
    """Check that the Prefect server answers us, and compare its version with the client's."""
    check_proxies()
    api = known_api()
    if not api:
        return Finding(
            topic="prefect",
            health=Health.OK,
            detail="no server configured: each run starts a temporary one (about 10 s)",
            fix="for faster runs and schedules: `sft-flow up`",
        )
    try:
        with api_client(api, is_patient=False) as client:
            client.read_work_pools(limit=1)
            theirs, ours = _versions(client)
    except SftFlowError as error:
        return Finding(
            topic="prefect",
            health=Health.PROBLEM,
            detail=f"{error.where}: {error.what}, got {error.got}",
            fix=error.fix,
        )
    if theirs != ours:
        return Finding(
            topic="prefect",
            health=Health.NOTE,
            detail=f"{api}: server {theirs}, client {ours}",
            fix="install the same version for both; the server can be newer, not older",
        )
    return Finding(topic="prefect", health=Health.OK, detail=f"{api}, version {theirs}")


def _versions(client: SyncPrefectClient) -> tuple[str, str]:
    """Return the versions of server and client; Prefect Cloud serves every client."""
    from prefect.client.base import ServerType

    ours = client.client_version()
    is_cloud = client.server_type is ServerType.CLOUD
    return (ours if is_cloud else client.api_version()), ours


def pool_names() -> list[str]:
    """Return the work pools of prefect.yaml in the current folder; sft-local if there are none."""
    path = Path("prefect.yaml")
    document = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    deployments = (document or {}).get("deployments") or ()
    named = [(deployment.get("work_pool") or {}).get("name") for deployment in deployments]
    return list(dict.fromkeys(name for name in named if name)) or [POOL]


def check_pools(api: str | None) -> Finding:
    """Check work pools and workers; only a note, because only scheduled runs need them.

    Args:
        api: Address of the server's API; None if it does not answer.

    Returns:
        What each pool lacks.
    """
    topic = "worker"
    if not api:
        detail, fix = "no Prefect server", "`sft-flow up` starts server and worker"
        return Finding(topic=topic, health=Health.NOTE, detail=detail, fix=fix)
    try:
        names = pool_names()
    except (OSError, AttributeError, yaml.YAMLError) as error:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"prefect.yaml cannot be read: {str(error).splitlines()[0]}",
            fix="fix the file; `prefect deploy --all` reads it too",
        )
    with api_client(api) as client:
        found = [describe_pool(client, name) for name in names]
    fixes = [fix for _, fix in found if fix]
    return Finding(
        topic=topic,
        health=Health.NOTE if fixes else Health.OK,
        detail="; ".join(detail for detail, _ in found),
        fix="; ".join(fixes),
    )


def describe_pool(client: SyncPrefectClient, name: str) -> tuple[str, str]:
    """Check one work pool.

    Args:
        client: Client of the server.
        name: Name of the pool.

    Returns:
        State of the pool, and the command that fixes it; empty if it is fine.
    """
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        return f"no work pool {name}", f"prefect work-pool create --type process {name}"
    if pool.is_paused:
        return f"{name} is paused", f"prefect work-pool resume {name}"
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status == "ONLINE"]
    if not online:
        return f"{name} has no worker", f"prefect worker start --pool {name}"
    return f"{name} ({pool.type}): {', '.join(online)}", ""


def check_deployments(api: str | None) -> Finding:
    """Check for deployments of our flows; only a note, because only scheduled runs need them.

    Args:
        api: Address of the server's API; None if it does not answer.

    Returns:
        Their names.
    """
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    topic = "deployments"
    if not api:
        return Finding(topic=topic, health=Health.NOTE, detail="no Prefect server")
    with api_client(api) as client:
        ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))
        names = sorted(found.name for found in client.read_deployments(flow_filter=ours))
    if not names:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail="none: nothing is scheduled",
            fix="`prefect deploy --all` in the folder with prefect.yaml",
        )
    return Finding(topic=topic, health=Health.OK, detail=", ".join(names))


def check_runs(api: str | None) -> Finding:
    """Check for runs that are late, and for runs whose machine died; only a note.

    Args:
        api: Address of the server's API; None if it does not answer.

    Returns:
        Their number and names.
    """
    from flows.services.stuck_runs import find_dead_runs, find_late_runs

    topic = "runs"
    if not api:
        return Finding(topic=topic, health=Health.NOTE, detail="no Prefect server")
    with api_client(api) as client:
        dead = [run.name for run in find_dead_runs(client)]
        n_late = len(find_late_runs(client))
    details, fixes = [], []
    if dead:
        details.append(f"Running, but without a heartbeat: {', '.join(dead)}")
        fixes.append(
            "`sft-flow up` marks them Crashed; if the server is another, `sft-flow notify`"
        )
    if n_late:
        details.append(f"{n_late} late")
        fixes.append("`sft-flow up`, or start a worker: of each deployment, only the newest runs")
    if details:
        return Finding(
            topic=topic, health=Health.NOTE, detail="; ".join(details), fix="; ".join(fixes)
        )
    return Finding(topic=topic, health=Health.OK, detail="none is late or without a heartbeat")


def check_store() -> Finding:
    """Check that the MLflow store answers us."""
    from tasks.registry.ping import ping
    from tasks.registry.store import ignored_variables

    uri, ignored = tracking_uri(), ignored_variables()
    try:
        ping(uri)
    except SftFlowError as error:
        detail = f"{error.where}: {error.what}, got {error.got}"
        return Finding(topic="mlflow", health=Health.PROBLEM, detail=detail, fix=error.fix)
    if ignored:
        return Finding(
            topic="mlflow",
            health=Health.NOTE,
            detail=f"{without_secrets(uri)}; ignored: {', '.join(ignored)}",
            fix="unset them; runs and versions go to MLFLOW_TRACKING_URI and registry.experiment",
        )
    return Finding(topic="mlflow", health=Health.OK, detail=without_secrets(uri))
