"""Prefect artifacts of a run: tables, links and pictures made from its report."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext

from tasks.engine.keys import slug
from tasks.engine.markdown import code, code_block, inline
from tasks.engine.redaction import without_secrets
from tasks.engine.wording import interval, number, optional_share, signed_number

TABLES = {
    "gates": "The comparisons the decision depends on",
    "rules": "What the data gate found",
    "metrics": "Base, champion and challenger on the same rows",
}
LINKS = {"version": "The version in MLflow", "run": "The version's run in MLflow"}
PICTURE = "loss_curve.svg"
PAGE = "report.html"
MAX_EXAMPLES = 3
"""Places shown with a broken rule; the report has up to five."""


def gate_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per gate of `report.json`, or a single row with the mode."""
    rows = [
        {
            "gate": gate["id"],
            "verdict": gate["verdict"],
            "metric": gate["metric"],
            "against": gate["against"],
            "challenger": number(gate["challenger"]),
            "opponent": number(gate["opponent"]),
            "gain": signed_number(gate["gain"]),
            "interval": interval(gate["interval_low"], gate["interval_high"]),
            "level": optional_share(gate["confidence"]),
            "limit": number(gate["limit"]),
            "rows": gate["n_rows"],
            "reason": gate["reason"],
        }
        for gate in report["gates"]
    ]
    return rows or [{"gate": "-", "verdict": f"gates.mode is {report['mode']}"}]


def rule_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per rule of `report.json` that was broken or measured, or a single row."""
    rows = [
        {
            "rule": rule["id"],
            "verdict": rule["verdict"],
            "severity": rule["severity"],
            "rows": rule["n_rows"],
            "observed": number(rule["observed"]),
            "limit": number(rule["limit"]),
            "places": _places(rule["examples"]),
            "fix": rule["fix"],
        }
        for rule in report["data"]["rules"]
    ]
    return rows or [{"rule": "-", "verdict": "no rule was broken"}]


def metric_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per metric of `report.json`, with a column for each role."""
    metrics: Mapping[str, Mapping[str, float | None]] = report["metrics"]
    names = dict.fromkeys(name for role in metrics.values() for name in role)
    return [
        {"metric": name} | {role: number(found.get(name)) for role, found in metrics.items()}
        for name in names
    ]


def mlflow_links(report: Mapping[str, Any]) -> dict[str, str]:
    """Return MLflow's addresses of the `version`, `run`, `page` and `picture` of `report.json`.

    Empty where MLflow has no server, or nothing was registered.
    """
    registry = report["registry"]
    server = without_secrets(registry.get("tracking_uri") or "").rstrip("/")
    if not registry["version"] or not server.startswith(("http://", "https://")):
        return {}
    run_id = registry["run_id"]
    run = f"{server}/#/experiments/{registry['experiment_id']}/runs/{run_id}"
    return {
        "version": f"{server}/#/models/{quote(registry['name'])}/versions/{registry['version']}",
        "run": run,
        "page": f"{run}/artifacts/{PAGE}",  # it shows the file; get-artifact sends a download
        "picture": f"{server}/get-artifact?{urlencode({'path': PICTURE, 'run_uuid': run_id})}",
    }


def picture_address(report: Mapping[str, Any], folder: Path) -> str | None:
    """Find an address of the loss curve that a browser can show.

    Args:
        report: `report.json`.
        folder: Output of `publish_report`.

    Returns:
        The picture itself as a data address (RFC 2397), which works on any machine; else its
        address in MLflow; None without either.
    """
    path = folder / PICTURE
    if not path.is_file():
        return mlflow_links(report).get("picture")
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def page_address(report: Mapping[str, Any], folder: Path) -> str:
    """Return the report's address in MLflow if that has a server, else of the file in `folder`."""
    return mlflow_links(report).get("page") or (folder / PAGE).as_uri()


def page_text(report: Mapping[str, Any], folder: Path) -> str:
    """Return Markdown with a link to MLflow, else the path of the file in `folder`.

    Browsers follow no link from a server's page to a file.
    """
    address = mlflow_links(report).get("page")
    if address:
        return f"[The report as one page]({address})"
    return f"{code(str(folder / PAGE))} on {inline(platform.node())}"


def show_report(key: str, report: Mapping[str, Any], folder: Path) -> None:
    """Create the artifacts of a report under keys that stay the same from run to run.

    Args:
        key: Beginning of the keys.
        report: `report.json`.
        folder: Output of `publish_report`.
    """
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    tables = {"gates": gate_table(report), "rules": rule_table(report)}
    tables["metrics"] = metric_table(report)
    picture = picture_address(report, folder)
    _create(f"{key}-report", "markdown", summary, "What was trained, measured and decided")
    for name, table in tables.items():
        _create(f"{key}-{name}", "table", json.dumps(table), TABLES[name])
    if picture:
        _create(f"{key}-loss", "image", picture, "Loss of the training, by step")
    _create(f"{key}-page", "markdown", page_text(report, folder), "The report as one page")
    for name, address in mlflow_links(report).items():
        if name in LINKS:
            _create(f"{key}-{name}", "markdown", f"[{LINKS[name]}]({address})", LINKS[name])


def _create(key: str, kind: str, data: str, description: str) -> None:
    """Create one artifact with the flow's own client.

    Prefect's create_*_artifact make the same request, each with a new client: 0.1 s more.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    artifact = ArtifactCreate(
        key=key, type=kind, data=data, description=description, flow_run_id=context.flow_run.id
    )
    if isinstance(context.client, SyncPrefectClient):
        context.client.create_artifact(artifact)


def show_rejection(name: str, payload: Mapping[str, Any]) -> None:
    """Create the artifact of rejected data.

    Args:
        name: Registered model name.
        payload: Reason, source, evidence and fix.
    """
    lines = [f"## {name}: data rejected", "", code_block(payload["reason"]), ""]
    lines += [f"- {word}: {inline(payload[word])}" for word in ("source", "evidence", "fix")]
    description = "Why the data gate rejected the rows"
    _create(f"{slug(name)}-rejection", "markdown", "\n".join(lines), description)


def _places(examples: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{one['file']}:{one['line']}" for one in examples[:MAX_EXAMPLES])
