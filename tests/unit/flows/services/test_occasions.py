"""What is sent, rendered as the server renders it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import (
    render_user_template_sync,
    validate_user_template,
)

from flows.services.occasions import NOTICES, Occasion, make_automation, payload_template

RUN = "0b6dc0a4-0000-4000-8000-000000000001"
PAGE = "http://prefect/runs/flow-run/"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REASON = 'better by 0.5 on "loss" <b>\nand more'


def event(name: str, resource: dict[str, str], payload: dict[str, Any]) -> ReceivedEvent:
    return ReceivedEvent.model_validate(
        {"occurred": AT, "event": name, "resource": resource, "payload": payload, "id": RUN}
    )


def promoted() -> ReceivedEvent:
    payload = {"name": "toy", "version": 4, "previous_version": 3, "reason": REASON}
    payload |= {"flow_run_id": RUN, "link": f"{PAGE}{RUN}", "report": "file:///report.html"}
    return event("sft-flow.model.promoted", {"prefect.resource.id": "sft-flow.model.toy"}, payload)


def failed() -> ReceivedEvent:
    resource = {"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.name": "toy"}
    payload = {"validated_state": {"type": "FAILED", "message": "Flow run failed: no space"}}
    return event("prefect.flow-run.Failed", resource, payload)


def sent(occasion: Occasion, found: ReceivedEvent, *, is_slack: bool = False) -> Any:
    template = payload_template(occasion, PAGE, is_slack=is_slack)
    validate_user_template(template)
    return json.loads(render_user_template_sync(template, {"event": found}))


def test_document_of_a_new_champion_holds_name_version_reason_and_link() -> None:
    assert sent(Occasion.PROMOTED, promoted()) == {
        "occasion": "promoted",
        "event": "sft-flow.model.promoted",
        "occurred": "2026-01-02T03:04:05+00:00",
        "name": "toy",
        "flow_run_id": RUN,
        "version": 4,
        "previous_version": 3,
        "reason": REASON,
        "fix": None,
        "report": "file:///report.html",
        "link": f"{PAGE}{RUN}",
        "text": f"toy: version 4 is champion\n{REASON}\n{PAGE}{RUN}",
    }


def test_document_of_a_failed_run_is_made_of_prefects_own_event() -> None:
    document = sent(Occasion.FAILED, failed())
    assert (document["name"], document["version"]) == ("toy", None)
    assert document["reason"] == "Flow run failed: no space"
    assert (document["flow_run_id"], document["link"]) == (RUN, f"{PAGE}{RUN}")
    assert document["text"] == f"toy: the run failed\nFlow run failed: no space\n{PAGE}{RUN}"


def test_failed_run_goes_by_the_registered_name_before_it_is_called_so() -> None:
    run = {"parameters": {"config": {"registry": {"name": "faq"}}}}
    template = payload_template(Occasion.FAILED, PAGE, is_slack=False)
    context = {"event": failed(), "flow_run": run}
    assert json.loads(render_user_template_sync(template, context))["name"] == "faq"


def test_slack_gets_the_sentence_alone() -> None:
    text = f"toy: the data gate rejected the data\n{REASON}\n{PAGE}{RUN}"
    assert sent(Occasion.REJECTED, promoted(), is_slack=True) == {"text": text}


@pytest.mark.parametrize("occasion", list(Occasion))
def test_every_occasion_renders_with_an_empty_payload(occasion: Occasion) -> None:
    nothing = event("e", {"prefect.resource.id": "prefect.flow-run.1"}, {})
    assert sent(occasion, nothing)["reason"] is None


def test_failed_runs_are_those_of_our_flows_and_no_refused_data() -> None:
    trigger = make_automation(Occasion.FAILED, UUID(RUN), "{}").trigger.model_dump(mode="json")
    assert trigger["match_related"]["prefect.resource.name"][:2] == ["train-sft", "retrain"]
    assert sorted(trigger["expect"]) == [
        "prefect.flow-run.Crashed",
        "prefect.flow-run.Failed",
        "prefect.flow-run.TimedOut",
    ]


def test_every_occasion_has_an_automation_of_its_own() -> None:
    assert len({notice.automation for notice in NOTICES.values()}) == len(Occasion)
