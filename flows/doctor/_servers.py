"""Checks of `sft-flow doctor` on servers: Prefect with pools, workers and deployments, and MLflow."""

from __future__ import annotations

import importlib.metadata
import urllib.parse
from pathlib import Path

import yaml

from flows.doctor.finding import Finding, Health
from flows.services.prefect_api import ask, is_healthy, known_api
from schemas.errors import SftFlowError
from tasks.engine.home import tracking_uri

POOL = "sft-local"
"""Default of `sft-flow up`, used if prefect.yaml names no pool."""
FLOWS = ("train-sft", "retrain", "check-data", "promote-model")


def check_prefect() -> Finding:
    """Check that the Prefect server answers, and compare its version with the client's."""
    api = known_api()
    if not api:
        return Finding(
            topic="prefect",
            health=Health.OK,
            detail="no server configured: each run starts a temporary one (about 10 s)",
            mend="for faster runs and schedules: `sft-flow up`",
        )
    if not is_healthy(api):
        return Finding(
            topic="prefect",
            health=Health.PROBLEM,
            detail=f"{api} does not answer",
            mend="start it (`sft-flow up`), fix PREFECT_API_URL, or unset it",
        )
    theirs, ours = str(ask(api, "/admin/version")), importlib.metadata.version("prefect")
    if theirs != ours:
        return Finding(
            topic="prefect",
            health=Health.NOTE,
            detail=f"{api}: server {theirs}, client {ours}",
            mend="install the same version for both; the server can be newer, not older",
        )
    return Finding(topic="prefect", health=Health.OK, detail=f"{api}, version {theirs}")


def pool_names() -> list[str]:
    """Return the work pools of prefect.yaml in the current folder; sft-local if there are none."""
    path = Path("prefect.yaml")
    document = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    deployments = (document or {}).get("deployments") or ()
    named = [(deployment.get("work_pool") or {}).get("name") for deployment in deployments]
    return list(dict.fromkeys(name for name in named if name)) or [POOL]


def check_pools() -> Finding:
    """Check work pools and workers; only a note, because only scheduled runs need them."""
    topic, api = "worker", known_api()
    if not api or not is_healthy(api):
        detail, mend = "no Prefect server", "`sft-flow up` starts server and worker"
        return Finding(topic=topic, health=Health.NOTE, detail=detail, mend=mend)
    try:
        names = pool_names()
    except (OSError, AttributeError, yaml.YAMLError) as error:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"prefect.yaml cannot be read: {str(error).splitlines()[0]}",
            mend="fix the file; `prefect deploy --all` reads it too",
        )
    found = [describe_pool(api, name) for name in names]
    mends = [mend for _, mend in found if mend]
    return Finding(
        topic=topic,
        health=Health.NOTE if mends else Health.OK,
        detail="; ".join(detail for detail, _ in found),
        mend="; ".join(mends),
    )


def describe_pool(api: str, name: str) -> tuple[str, str]:
    """Check one work pool.

    Args:
        api: Address of Prefect's API.
        name: Name of the pool.

    Returns:
        State of the pool, and the command that fixes it; empty if it is fine.
    """
    place = f"/work_pools/{urllib.parse.quote(name, safe='')}"
    pool = ask(api, place)
    if pool is None:
        return f"no work pool {name}", f"prefect work-pool create --type process {name}"
    if pool["is_paused"]:
        return f"{name} is paused", f"prefect work-pool resume {name}"
    workers = ask(api, f"{place}/workers/filter", {})
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    if not online:
        return f"{name} has no worker", f"prefect worker start --pool {name}"
    return f"{name} ({pool['type']}): {', '.join(online)}", ""


def check_deployments() -> Finding:
    """Check for deployments of our flows; only a note, because only scheduled runs need them."""
    api = known_api()
    topic = "deployments"
    if not api or not is_healthy(api):
        return Finding(topic=topic, health=Health.NOTE, detail="no Prefect server")
    query = {"flows": {"name": {"any_": list(FLOWS)}}}
    found = ask(api, "/deployments/filter", query)
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
    """Check that the MLflow store answers."""
    from tasks.registry.store import ping

    uri = tracking_uri()
    try:
        ping(uri)
    except SftFlowError as error:
        detail = f"{error.where} does not answer"
        return Finding(topic="mlflow", health=Health.PROBLEM, detail=detail, mend=error.fix)
    return Finding(topic="mlflow", health=Health.OK, detail=uri)
