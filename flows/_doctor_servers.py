"""The servers that `sft-flow doctor` looks at: Prefect with pool, worker and deployments, and MLflow."""

from __future__ import annotations

import importlib.metadata

from flows._finding import Finding, Health
from flows._prefect_api import ask, is_healthy, known_api
from schemas.errors import SftFlowError
from tasks._home import tracking_uri

POOL = "sft-local"
"""As in prefect.yaml."""
FLOWS = ("train-sft", "retrain", "check-data", "promote-model")


def check_prefect() -> Finding:
    """Reach the Prefect server, and compare its version with the client's.

    Returns:
        ok, or the address that does not answer.
    """
    api = known_api()
    if not api:
        return Finding(
            topic="prefect",
            health=Health.OK,
            detail="no server configured: each run starts a temporary one (about 10 s)",
            mend="quicker, and with schedules: `sft-flow up`",
        )
    if not is_healthy(api):
        return Finding(
            topic="prefect",
            health=Health.PROBLEM,
            detail=f"{api} does not answer",
            mend="start it (`sft-flow up`), correct PREFECT_API_URL, or unset it",
        )
    theirs, ours = str(ask(api, "/admin/version")), importlib.metadata.version("prefect")
    if theirs != ours:
        return Finding(
            topic="prefect",
            health=Health.NOTE,
            detail=f"{api}: server {theirs}, client {ours}",
            mend="bring both to the same version; the server may be newer, not older",
        )
    return Finding(topic="prefect", health=Health.OK, detail=f"{api}, version {theirs}")


def check_pool() -> Finding:
    """Look at the work pool and its workers.

    Returns:
        ok, or a note: only scheduled runs need them.
    """
    api = known_api()
    if not api or not is_healthy(api):
        return _pool_note("no server that could have one", "`sft-flow up` starts them")
    pool = ask(api, f"/work_pools/{POOL}")
    if pool is None:
        return _pool_note(f"no work pool {POOL}", f"prefect work-pool create --type process {POOL}")
    if pool["is_paused"]:
        return _pool_note(f"{POOL} is paused", f"prefect work-pool resume {POOL}")
    workers = ask(api, f"/work_pools/{POOL}/workers/filter", {})
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    if not online:
        return _pool_note(f"{POOL} has no worker", f"prefect worker start --pool {POOL}")
    return Finding(
        topic="worker", health=Health.OK, detail=f"{POOL} ({pool['type']}): {', '.join(online)}"
    )


def check_deployments() -> Finding:
    """Look for deployments of our flows.

    Returns:
        ok, or a note: only scheduled runs need them.
    """
    api = known_api()
    topic = "deployments"
    if not api or not is_healthy(api):
        return Finding(topic=topic, health=Health.NOTE, detail="no server that could have them")
    wanted = {"flows": {"name": {"any_": list(FLOWS)}}}
    found = ask(api, "/deployments/filter", wanted)
    if not found:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail="none: nothing is scheduled",
            mend="`prefect deploy --all` in the folder with prefect.yaml",
        )
    names = sorted(deployment["name"] for deployment in found)
    return Finding(topic=topic, health=Health.OK, detail=", ".join(names))


def check_store() -> Finding:
    """Reach the MLflow store.

    Returns:
        ok, or the address that does not answer.
    """
    from tasks._registry import ping

    uri = tracking_uri()
    try:
        ping(uri)
    except SftFlowError as error:
        detail = f"{error.where} does not answer"
        return Finding(topic="mlflow", health=Health.PROBLEM, detail=detail, mend=error.fix)
    return Finding(topic="mlflow", health=Health.OK, detail=uri)


def _pool_note(detail: str, mend: str) -> Finding:
    return Finding(topic="worker", health=Health.NOTE, detail=detail, mend=mend)
