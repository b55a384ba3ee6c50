"""The automations of `sft-flow notify` on the Prefect server: made, changed, listed, taken away."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit
from uuid import UUID

from flows.services.occasions import NOTICES, Occasion, make_automation, payload_template
from flows.services.prefect_api import API_VARIABLE, is_healthy, known_api
from schemas.base import Record
from schemas.errors import ConfigError, ServiceUnreachable

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

NO_RUN = UUID(int=0)
BLOCK_NAME = "sft-flow-notify"
"""The block on the server that keeps the webhook's address; encrypted there, and never shown."""


class Change(StrEnum):
    """What became of an automation, or how it is."""

    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"
    ACTIVE = "active"
    PAUSED = "paused"


class Subscription(Record):
    """One automation of ours."""

    occasion: Occasion
    automation: str
    events: tuple[str, ...]
    change: Change


def subscribe(
    address: str, occasions: Collection[Occasion], *, is_slack: bool
) -> list[Subscription]:
    """Create or update the automations asked for, and remove ours that are not.

    Args:
        address: Webhook that gets a POST with JSON.
        occasions: What to tell.
        is_slack: Send what Slack's webhooks take.

    Returns:
        What was done, in the order of `Occasion`.

    Raises:
        ConfigError: The address is none, or no server is configured.
        ServiceUnreachable: The server does not answer.
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
            wanted = None
            if occasion in occasions:
                payload = payload_template(occasion, page, is_slack=is_slack)
                wanted = make_automation(occasion, block_id, payload)
            done += _settle(client, occasion, wanted)
        return done


def _settle(
    client: SyncPrefectClient, occasion: Occasion, wanted: AutomationCore | None
) -> list[Subscription]:
    """Make the server have the automation once, or not at all."""
    present = client.read_automations_by_name(NOTICES[occasion].automation)
    for surplus in present[1:] if wanted else present:
        client.delete_automation(surplus.id)
    if wanted is None:
        return [_subscription(occasion, Change.REMOVED)] if present else []
    if not present:
        client.create_automation(wanted)
        return [_subscription(occasion, Change.CREATED)]
    client.update_automation(present[0].id, wanted)
    return [_subscription(occasion, Change.UPDATED)]


def list_subscriptions() -> list[Subscription]:
    """Look which of our automations the server has.

    Returns:
        Those that are there.

    Raises:
        ConfigError: No server is configured.
        ServiceUnreachable: It does not answer.
    """
    with server() as client:
        return [
            _subscription(occasion, Change.ACTIVE if found.enabled else Change.PAUSED)
            for occasion in Occasion
            for found in client.read_automations_by_name(NOTICES[occasion].automation)
        ]


def unsubscribe() -> list[Subscription]:
    """Remove our automations and the block with the address.

    Returns:
        What was removed.

    Raises:
        ConfigError: No server is configured.
        ServiceUnreachable: It does not answer.
    """
    with server() as client:
        from prefect.blocks.webhook import Webhook

        done = [one for occasion in Occasion for one in _settle(client, occasion, None)]
        with suppress(ValueError):  # there is none
            Webhook.delete(BLOCK_NAME)
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
    """Check that an address can be one of a webhook.

    Args:
        address: What the user gave.

    Raises:
        ConfigError: It cannot; the address itself, which may hold a secret, is not repeated.
    """
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.hostname:
        return
    raise ConfigError(
        "the webhook has no address that can be called",
        where="--webhook or --slack",
        expected="https://host/path",
        got=f"scheme {parts.scheme!r}, host {parts.hostname or ''!r}",
        fix="give the whole address, in quotes",
    )


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Open the Prefect server that is configured, or that of `sft-flow up`.

    Yields:
        A client.

    Raises:
        ConfigError: None is configured; a temporary one would forget the automations.
        ServiceUnreachable: It does not answer, or refuses what is asked of it.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = known_api()
    if not address:
        raise ConfigError(
            "no Prefect server is configured to keep the automations",
            where=API_VARIABLE,
            expected="the address of a server that stays",
            got="nothing",
            fix=f"sft-flow up, or start `prefect server start` and set {API_VARIABLE}",
        )
    if not is_healthy(address):
        raise _unreachable(address, "no answer")
    try:
        with (
            temporary_settings({PREFECT_API_URL: address}),
            get_client(sync_client=True) as client,
        ):
            yield client
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise _unreachable(address, str(error).splitlines()[0]) from error


def _unreachable(address: str, got: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "the Prefect server does not do what is asked of it",
        where=address,
        expected="a Prefect server that answers",
        got=got,
        fix=f"start it (sft-flow up, or prefect server start), or correct {API_VARIABLE}",
    )
