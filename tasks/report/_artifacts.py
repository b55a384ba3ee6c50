"""What Prefect shows of a run: keys, tables, links and pictures made from its report."""

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
from tasks.engine.redaction import without_secrets

TABLES = {
    "gates": "The comparisons the decision rests on",
    "rules": "What the data gate found",
    "metrics": "Base, champion and challenger on the same rows",
}
LINKS = {"version": "The version in MLflow", "run": "The version's run in MLflow"}
PICTURE = "loss_curve.svg"
PAGE = "report.html"
MAX_EXAMPLES = 3
"""Places shown with a broken rule; the report has up to five."""


def gate_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay the gates out.

    Args:
        report: `report.json`.

    Returns:
        One row per gate; a single row that says so where there was none.
    """
    rows = [
        {
            "gate": gate["id"],
            "verdict": gate["verdict"],
            "metric": gate["metric"],
            "against": gate["against"],
            "challenger": _figure(gate["challenger"]),
            "opponent": _figure(gate["opponent"]),
            "gain": _figure(gate["gain"]),
            "interval": _interval(gate["interval_low"], gate["interval_high"]),
            "limit": _figure(gate["limit"]),
            "rows": gate["n_rows"],
            "reason": gate["reason"],
        }
        for gate in report["gates"]
    ]
    return rows or [{"gate": "-", "verdict": f"gates.mode is {report['mode']}"}]


def rule_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay the rules of the data gate out.

    Args:
        report: `report.json`.

    Returns:
        One row per rule that was broken or measured; a single row that says so where none was.
    """
    rows = [
        {
            "rule": rule["id"],
            "verdict": rule["verdict"],
            "severity": rule["severity"],
            "rows": rule["n_rows"],
            "observed": _figure(rule["observed"]),
            "limit": _figure(rule["limit"]),
            "places": _places(rule["examples"]),
            "fix": rule["fix"],
        }
        for rule in report["data"]["rules"]
    ]
    return rows or [{"rule": "-", "verdict": "no rule was broken"}]


def metric_table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay the metrics of every role out.

    Args:
        report: `report.json`.

    Returns:
        One row per metric, with a column for base, champion if there is one, and challenger.
    """
    metrics: Mapping[str, Mapping[str, float | None]] = report["metrics"]
    names = dict.fromkeys(name for role in metrics.values() for name in role)
    return [
        {"metric": name} | {role: _figure(found.get(name)) for role, found in metrics.items()}
        for name in names
    ]


def mlflow_links(report: Mapping[str, Any]) -> dict[str, str]:
    """Find the addresses of a version in MLflow's pages.

    Args:
        report: `report.json`.

    Returns:
        `version`, `run`, `page` and `picture`; empty where MLflow has no server or nothing was
        registered.
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
        address in MLflow; None where neither is there.
    """
    path = folder / PICTURE
    if not path.is_file():
        return mlflow_links(report).get("picture")
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def page_address(report: Mapping[str, Any], folder: Path) -> str:
    """Say where the report can be read.

    Args:
        report: `report.json`.
        folder: Output of `publish_report`.

    Returns:
        Address in MLflow where that has a server, else of the file on the machine that ran it.
    """
    return mlflow_links(report).get("page") or (folder / PAGE).as_uri()


def page_text(report: Mapping[str, Any], folder: Path) -> str:
    """Lead a reader to the report.

    Args:
        report: `report.json`.
        folder: Output of `publish_report`.

    Returns:
        Markdown: a link to MLflow, else the path, since browsers follow no link from a server's
        page to a file.
    """
    address = mlflow_links(report).get("page")
    if address:
        return f"[The report as one page]({address})"
    return f"`{folder / PAGE}` on {platform.node()}"


def show_report(key: str, report: Mapping[str, Any], folder: Path) -> None:
    """Create the artefacts of a report under keys that stay the same from run to run.

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
    """Create one artefact with the flow's own client.

    Prefect's create_*_artifact make the same request, each with a new client: 0.1 s more.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    artefact = ArtifactCreate(
        key=key, type=kind, data=data, description=description, flow_run_id=context.flow_run.id
    )
    if isinstance(context.client, SyncPrefectClient):
        context.client.create_artifact(artefact)


def show_rejection(name: str, payload: Mapping[str, Any]) -> None:
    """Create the artefact of refused data.

    Args:
        name: Registered model name.
        payload: Reason, source, evidence and fix.
    """
    lines = [f"## {name}: data refused", "", "```", payload["reason"], "```", ""]
    lines += [f"- {word}: {payload[word]}" for word in ("source", "evidence", "fix")]
    description = "Why the data gate refused the rows"
    _create(f"{slug(name)}-rejection", "markdown", "\n".join(lines), description)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _places(examples: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{one['file']}:{one['line']}" for one in examples[:MAX_EXAMPLES])
