"""Create, update, list and remove the automations of `sft-flow notify` on the Prefect server."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit
from uuid import UUID

from flows.services.occasions import NOTICES, Occasion, make_automation, payload_template
from flows.services.prefect_api import API_VARIABLE, api_client, check_api, known_api
from flows.services.stuck_runs import mark_crashed, stop_watching, watch_heartbeats
from schemas.base import Record
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

NO_RUN = UUID(int=0)
BLOCK_NAME = "sft-flow-notify"
"""Block on the server with the webhook's address; stored encrypted, and never shown."""


class Change(StrEnum):
    """Change or state of an automation."""

    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"
    ACTIVE = "active"
    PAUSED = "paused"


class Subscription(Record):
    """One automation of sft-flow."""

    occasion: Occasion
    automation: str
    events: tuple[str, ...]
    change: Change


def subscribe(
    address: str, occasions: Collection[Occasion], *, is_slack: bool
) -> list[Subscription]:
    """Create or update the automations of some occasions, and remove those of the others.

    Args:
        address: Webhook that receives a POST with JSON.
        occasions: Occasions to notify about.
        is_slack: Use the format of Slack's webhooks.

    Returns:
        The changes, in the order of `Occasion`.
    """
    check_address(address)
    with server() as client:
        from prefect.blocks.webhook import Webhook
        from prefect.utilities.urls import url_for

        webhook = Webhook(url=address, headers={"Content-Type": "application/json"})  # type: ignore[arg-type]
        block_id = cast(UUID, webhook.save(BLOCK_NAME, overwrite=True))  # sync, as called here
        page = (url_for("flow-run", obj_id=NO_RUN) or "").removesuffix(str(NO_RUN))
        done = []
        for occasion in Occasion:
            automation = None
            if occasion in occasions:
                payload = payload_template(occasion, page, is_slack=is_slack)
                automation = make_automation(occasion, block_id, payload)
            done += _settle(client, occasion, automation)
        watch_heartbeats(client)
        mark_crashed(client)
        return done


def _settle(
    client: SyncPrefectClient, occasion: Occasion, automation: AutomationCore | None
) -> list[Subscription]:
    """Create or update the automation of an occasion; None removes it."""
    present = client.read_automations_by_name(NOTICES[occasion].automation)
    for surplus in present[1:] if automation else present:
        client.delete_automation(surplus.id)
    if automation is None:
        return [_subscription(occasion, Change.REMOVED)] if present else []
    if not present:
        client.create_automation(automation)
        return [_subscription(occasion, Change.CREATED)]
    client.update_automation(present[0].id, automation)
    return [_subscription(occasion, Change.UPDATED)]


def list_subscriptions() -> list[Subscription]:
    """List the automations of sft-flow on the server."""
    with server() as client:
        return [
            _subscription(occasion, Change.ACTIVE if found.enabled else Change.PAUSED)
            for occasion in Occasion
            for found in client.read_automations_by_name(NOTICES[occasion].automation)
        ]


def unsubscribe() -> list[Subscription]:
    """Remove the automations of sft-flow and the block with the address."""
    with server() as client:
        from prefect.blocks.webhook import Webhook

        done = [one for occasion in Occasion for one in _settle(client, occasion, None)]
        with suppress(ValueError):  # there is none
            Webhook.delete(BLOCK_NAME)
        stop_watching(client)
        return done


def _subscription(occasion: Occasion, change: Change) -> Subscription:
    notice = NOTICES[occasion]
    return Subscription(
        occasion=occasion,
        automation=notice.automation,
        events=tuple(sorted(notice.events)),
        change=change,
    )


def check_address(address: str) -> None:
    """Check the address of a webhook.

    Args:
        address: Address given by the user.

    Raises:
        ConfigError: It is no URL; the message does not repeat it, because it may contain a secret.
    """
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.hostname:
        return
    raise ConfigError(
        "the address of the webhook is not a URL",
        where="--webhook or --slack",
        expected="https://host/path",
        got=f"scheme {parts.scheme!r}, host {parts.hostname or ''!r}",
        fix="use the complete address, in quotes",
    )


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Open a client of the configured Prefect server, or that of `sft-flow up`.

    Yields:
        The client.

    Raises:
        ConfigError: No server is configured: notifications come from a permanent one.
    """
    address = known_api()
    if not address:
        raise ConfigError(
            "no Prefect server is configured that can send notifications",
            where=API_VARIABLE,
            expected="the address of a permanent server",
            got="nothing",
            fix=f"run `sft-flow up`, or start `prefect server start` and set {API_VARIABLE}",
        )
    check_api(address)
    with api_client(address) as client:
        yield client
