"""Tell Prefect what a run came to: events that automations listen to, artefacts that people read.

Nothing here fails a run: what Prefect does not take is a warning in the log. Without a flow run,
as in a plan, nothing is said.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.states import Failed
from prefect.utilities.urls import url_for

from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.decision import Decision
from schemas.records.events import REJECTED_STATE, RESOURCE_PREFIX, Happening
from schemas.records.references import ReportReference, RetrainDecision
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import read_entries
from tasks.engine.run_bar import finish_progress, slug
from tasks.registry.history import read_history
from tasks.report._artifacts import page_address, show_rejection, show_report
from tasks.report._assets import emit_assets
from tasks.report.document import outcome
from tasks.report.history_page import write_history
from tasks.sources.mixture import title

P = ParamSpec("P")


def _never_fails(
    announce: Callable[Concatenate[UUID, P], None],
) -> Callable[P, None]:
    """Hand over the id of the flow run; without one do nothing, and log what goes wrong."""

    @functools.wraps(announce)
    def announced(*args: P.args, **kwargs: P.kwargs) -> None:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        try:
            announce(context.flow_run.id, *args, **kwargs)
        except Exception as error:
            get_run_logger().warning("Prefect does not show everything of this run: %s", error)

    return announced


@_never_fails
def announce_report(flow_run_id: UUID, config: RunConfig, reference: ReportReference) -> None:
    """Show a report; send an event and assets if this run, not an earlier one, moved the model.

    Args:
        flow_run_id: Given by the decorator.
        config: The resolved configuration.
        reference: Output of `publish_report`.
    """
    path = locate(reference, "report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    happening = verdict_of(report)
    if happening and was_computed(str(flow_run_id), Stage.PROMOTE_MODEL):
        payload = report_payload(report, path.parent)
        _send(happening, config.registry.name, payload, flow_run_id)
    show_report(slug(config.registry.name), report, path.parent)
    if was_computed(str(flow_run_id), Stage.REGISTER_MODEL):
        emit_assets(config, report)
    if report["registry"]["version"]:
        write_history(read_history(config.registry))


@_never_fails
def announce_rejection(flow_run_id: UUID, config: RunConfig, error: DataRejected) -> None:
    """Say that the data gate refused the rows.

    Args:
        flow_run_id: Given by the decorator.
        config: The resolved configuration.
        error: What the gate raised.
    """
    payload = {
        "reason": error.what,
        "source": title(config.data.origin),
        "evidence": error.where,
        "fix": error.fix,
    }
    _send(Happening.DATA_REJECTED, config.registry.name, payload, flow_run_id)
    show_rejection(config.registry.name, payload)
    write_history(read_history(config.registry))


def rejected_state(error: DataRejected) -> State[Any]:
    """Make the state in which a flow run with refused rows ends: failed, and called Rejected.

    Its event is prefect.flow-run.Rejected, so that automations on failed runs do not fire on what
    `announce_rejection` tells. Returned by a flow, it raises the error where the flow was called.

    Args:
        error: What the gate raised.

    Returns:
        The state.
    """
    return Failed(name=REJECTED_STATE, message=error.what, data=error)


@_never_fails
def announce_skip(flow_run_id: UUID, config: RunConfig, decision: RetrainDecision) -> None:
    """Say that there was no reason to train.

    Args:
        flow_run_id: Given by the decorator.
        config: The resolved configuration.
        decision: What was compared, and what came of it.
    """
    payload = decision.model_dump(mode="json", exclude={"reason", "detail"})
    payload["reason"] = decision.detail
    _send(Happening.RETRAIN_SKIPPED, config.registry.name, payload, flow_run_id)
    finish_progress(decision.detail)


@_never_fails
def announce_promotion(
    flow_run_id: UUID, registry: RegistryConfig, version: int, former: int | None, reason: str
) -> None:
    """Say that a person moved the alias.

    Args:
        flow_run_id: Given by the decorator.
        registry: Name and aliases.
        version: Champion now.
        former: Champion before.
        reason: What the person gave as the reason.
    """
    payload = {"version": version, "previous_version": former, "reason": reason}
    _send(Happening.MODEL_PROMOTED, registry.name, payload, flow_run_id)


def verdict_of(report: dict[str, Any]) -> Happening | None:
    """Name the event that a report is worth.

    Args:
        report: `report.json`.

    Returns:
        None for a dry run and where nothing was judged.
    """
    if report["registry"]["is_promoted"]:
        return Happening.MODEL_PROMOTED
    is_judged = report["decision"] != Decision.SKIPPED and report["mode"] == DecisionMode.ENFORCE
    return Happening.MODEL_REFUSED if is_judged else None


def was_computed(flow_run_id: str, stage: Stage) -> bool:
    """Tell whether a stage ran in this flow run, and was not just looked up.

    Args:
        flow_run_id: Prefect's id of the run.
        stage: The stage.

    Returns:
        True when the journal says MISS; a run that finds everything cached has no news.
    """
    entries = read_entries(flow_run_id)
    return any(entry.stage == stage and entry.event == "MISS" for entry in entries)


def report_payload(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Say in an event what became of a model.

    Args:
        report: `report.json`.
        folder: Output of `publish_report`.

    Returns:
        What the event carries.
    """
    registry = report["registry"]
    return {
        "version": registry["version"],
        "previous_version": registry["previous_version"],
        "decision": report["decision"],
        "outcome": outcome(report),
        "reason": report["reason"],
        "metrics": report["metrics"],
        "retrain": report.get("retrain"),
        "model_uri": registry.get("model_uri"),
        "report": page_address(report, folder),
    }


def _send(happening: Happening, name: str, payload: dict[str, Any], flow_run_id: UUID) -> None:
    """Send one event; Prefect adds the flow run, its flow, deployment and tags as related."""
    resource = {
        "prefect.resource.id": f"{RESOURCE_PREFIX}{name}",
        "prefect.resource.name": name,
        **{
            f"sft-flow.{label}": str(payload[label])
            for label in ("version", "decision")
            if payload.get(label) is not None
        },
    }
    link = url_for("flow-run", obj_id=flow_run_id)
    common = {"name": name, "flow_run_id": str(flow_run_id), "link": link}
    emit_event(event=happening.value, resource=resource, payload=common | payload)
