"""Occasions of notifications: their events, and the document that is sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schemas.records.events import RESOURCE_PREFIX, Happening

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.events.schemas.automations import AutomationCore

FLOWS = ("train-sft", "retrain", "check-data", "promote-model", "roll-back", "sweep-training")
TAG = "sft-flow"


class Occasion(StrEnum):
    """Occasion of a notification."""

    FAILED = "failed"
    REJECTED = "rejected"
    PROMOTED = "promoted"
    REFUSED = "refused"
    SKIPPED = "skipped"


ALWAYS = (Occasion.FAILED, Occasion.REJECTED, Occasion.PROMOTED)
"""Always sent; the others only on request."""


@dataclass(frozen=True)
class Notice:
    """Events and headline of one occasion."""

    automation: str
    """Name on the server, used to find the automation again."""
    events: frozenset[str]
    headline: str
    """Jinja expression over `name` and `fields`."""


NOTICES = {
    Occasion.FAILED: Notice(
        "sft-flow: run failed",
        # A run with rejected data ends in state Rejected, which is the next occasion.
        frozenset(f"prefect.flow-run.{state}" for state in ("Failed", "TimedOut", "Crashed")),
        "name ~ ': the run failed'",
    ),
    Occasion.REJECTED: Notice(
        "sft-flow: data refused",
        frozenset({Happening.DATA_REJECTED.value}),
        "name ~ ': the data gate rejected the data'",
    ),
    Occasion.PROMOTED: Notice(
        "sft-flow: new champion",
        frozenset({Happening.MODEL_PROMOTED.value}),
        "name ~ ': version ' ~ fields.version ~ ' is champion'",
    ),
    Occasion.REFUSED: Notice(
        "sft-flow: model refused",
        frozenset({Happening.MODEL_REFUSED.value}),
        "name ~ ': version ' ~ fields.version ~ ' was refused'",
    ),
    Occasion.SKIPPED: Notice(
        "sft-flow: nothing to train on",
        frozenset({Happening.RETRAIN_SKIPPED.value}),
        "name ~ ': no reason to train'",
    ),
}

FIELDS = ("version", "previous_version", "reason", "fix", "report", "link")
"""Copied from the payload of our event; null if it has none."""


def payload_template(occasion: Occasion, run_page: str, *, is_slack: bool) -> str:
    """Format the Jinja template of the document that is sent; Prefect renders it in its sandbox.

    Args:
        occasion: Occasion of the notification.
        run_page: Address of a flow run's page, without the run's id.
        is_slack: Send only the field `text`, as Slack and Mattermost expect.

    Returns:
        Template of a JSON document: occasion, event, occurred, name, flow_run_id, `FIELDS` and
        text, the same as a sentence.
    """
    if occasion is Occasion.FAILED:
        # An event of Prefect. Our runs are called like the registered name, but only once they
        # have started.
        lines = [
            "{% set registered = flow_run.parameters.config.registry.name %}",
            "{% set name = registered | default(event.resource.name, true) %}",
            "{% set run = event.resource.id.split('.')[-1] %}",
            "{% set fields = {'version': none, 'reason': event.payload.validated_state.message, "
            f"'link': {run_page!r} ~ run}} %}}",
        ]
    else:
        lines = [
            "{% set name = event.payload.name | default('a model') %}",
            "{% set run = event.payload.flow_run_id | default(none) %}",
            "{% set fields = event.payload %}",
        ]
    lines += [
        f"{{% set text = {NOTICES[occasion].headline} ~ '\\n' ~ (fields.reason or '') ~ '\\n' "
        "~ (fields.link or '') %}",
        "{{ {%s} | tojson }}" % ("'text': text" if is_slack else _document(occasion)),
    ]
    return "".join(lines)


def _document(occasion: Occasion) -> str:
    """Write the fields of the JSON document as a Jinja mapping without its braces."""
    parts = {"occasion": repr(occasion.value), "event": "event.event"}
    parts |= {"occurred": "event.occurred.isoformat()", "name": "name", "flow_run_id": "run"}
    parts |= {field: f"fields.{field} | default(none)" for field in FIELDS}
    return ", ".join(f"'{key}': {value}" for key, value in {**parts, "text": "text"}.items())


def make_automation(occasion: Occasion, block_id: UUID, payload: str) -> AutomationCore:
    """Build the automation of one occasion, without sending it to the server.

    Args:
        occasion: Occasion of the notification.
        block_id: Webhook block on the server.
        payload: Result of `payload_template`.

    Returns:
        The automation.
    """
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    notice = NOTICES[occasion]
    match: dict[str, Any] = {"prefect.resource.id": f"{RESOURCE_PREFIX}*"}
    related: dict[str, Any] = {}
    if occasion is Occasion.FAILED:
        match = {"prefect.resource.id": "prefect.flow-run.*"}
        related = {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}
    return AutomationCore(
        name=notice.automation,
        description="Created by `sft-flow notify`; remove it with `sft-flow notify --remove`.",
        tags=[TAG],
        trigger=EventTrigger(
            expect=set(notice.events),
            match=ResourceSpecification(match),
            match_related=ResourceSpecification(related),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=block_id, payload=payload)],
    )
