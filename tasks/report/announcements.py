"""Send the results of a run to Prefect: events for automations, and artifacts.

Nothing here fails a run: what Prefect refuses is a warning in the log. Without a flow run, as in a
plan, nothing is sent.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
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
from tasks.engine.cache import locate
from tasks.engine.keys import slug
from tasks.engine.run_bar import finish_progress
from tasks.registry.history import read_history
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import ANNOUNCED_TAG, DECISION_SHA256_TAG, PROMOTED_AT_TAG
from tasks.report._artifacts import page_address, show_rejection, show_report
from tasks.report.document import outcome
from tasks.report.history_page import write_history
from tasks.sources.mixture import title

P = ParamSpec("P")
SEND_SECONDS = 30.0
"""Longest time in which Prefect sends an event."""


def _never_fails(
    announce: Callable[Concatenate[UUID, P], None],
) -> Callable[P, None]:
    """Pass the id of the flow run; without one do nothing, and log what goes wrong."""

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
    """Show a report; send an event for a decision that was not announced yet, also of an earlier run.

    The decorator passes `flow_run_id`.
    """
    path = locate(reference, "report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    registry = report["registry"]
    if happening := verdict_of(report):
        news = News(registry["name"], registry["version"], outcome(report))
        if not news.is_told():
            payload = report_payload(report, path.parent)
            _send(happening, config.registry.name, payload, flow_run_id, news.event_id)
            news.note_told()
    show_report(slug(config.registry.name), report, path.parent)
    if registry["version"]:
        write_history(read_history(config.registry))


class News:
    """The outcome of a decision, announced once by whichever run gets there first."""

    def __init__(self, name: str, version: int, outcome: str) -> None:
        """Read the version's last decision.

        Args:
            name: Registered model name.
            version: Its number.
            outcome: As `document.outcome` names it.
        """
        self.client, self.name, self.version = connect(), name, str(version)
        with store_errors():
            self.tags = self.client.get_model_version(name, self.version).tags
        self.text = f"{outcome} {self.tags.get(DECISION_SHA256_TAG, '')}"
        self.event_id = uuid5(NAMESPACE_URL, f"models:/{name}/{version} {self.text}")
        """The same in each run, so that Prefect keeps one event even if two runs send it."""

    def is_told(self) -> bool:
        """Return whether an event was sent."""
        return self.tags.get(ANNOUNCED_TAG) == self.text

    def note_told(self) -> None:
        """Record that the event was sent, unless Prefect's thread does not get rid of it in time."""
        sending = threading.Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
        sending.start()
        sending.join(SEND_SECONDS)
        if sending.is_alive():
            return
        with store_errors():
            self.client.set_model_version_tag(self.name, self.version, ANNOUNCED_TAG, self.text)


@_never_fails
def announce_rejection(flow_run_id: UUID, config: RunConfig, error: DataRejected) -> None:
    """Send an event for data that the data gate rejected, and show the evidence."""
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
    """Make the state in which a flow run with rejected data ends: failed, and named Rejected.

    Its event is prefect.flow-run.Rejected, so that automations on failed runs do not fire besides
    that of `announce_rejection`. Returned by a flow, it raises the error where the flow was called.
    """
    return Failed(name=REJECTED_STATE, message=error.what, data=error)


@_never_fails
def announce_skip(flow_run_id: UUID, config: RunConfig, decision: RetrainDecision) -> None:
    """Send an event for a retrain without a reason to train."""
    payload = decision.model_dump(mode="json", exclude={"reason", "detail"})
    payload["reason"] = decision.detail
    _send(Happening.RETRAIN_SKIPPED, config.registry.name, payload, flow_run_id)
    finish_progress(decision.detail)


@_never_fails
def announce_promotion(
    flow_run_id: UUID, registry: RegistryConfig, version: int, previous: int | None, reason: str
) -> None:
    """Send an event for an alias that was moved by hand, from version `previous` if there was one."""
    payload = {"version": version, "previous_version": previous, "reason": reason}
    client = connect()
    with store_errors():
        when = client.get_model_version(registry.name, str(version)).tags.get(PROMOTED_AT_TAG, "")
    event_id = uuid5(NAMESPACE_URL, f"models:/{registry.name}/{version} by hand {when}")
    _send(Happening.MODEL_PROMOTED, registry.name, payload, flow_run_id, event_id)


def verdict_of(report: dict[str, Any]) -> Happening | None:
    """Return the event for a report; None for a dry run and where no model was evaluated."""
    if report["registry"]["is_promoted"]:
        return Happening.MODEL_PROMOTED
    is_decided = report["decision"] != Decision.SKIPPED and report["mode"] == DecisionMode.ENFORCE
    return Happening.MODEL_REFUSED if is_decided else None


def report_payload(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the payload of a report's event."""
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


def _send(
    happening: Happening,
    name: str,
    payload: dict[str, Any],
    flow_run_id: UUID,
    event_id: UUID | None = None,
) -> None:
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
    emit_event(event=happening.value, resource=resource, payload=common | payload, id=event_id)
