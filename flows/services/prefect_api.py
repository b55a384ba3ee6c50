"""The Prefect server that commands speak to: which one, is it up, and what does it answer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from flows.services.state import local_prefect_api

API_VARIABLE = "PREFECT_API_URL"
ANSWER_SECONDS = 5.0
NOT_FOUND = 404


def known_api() -> str | None:
    """Name the server that stays when a command ends.

    Returns:
        Address of the API: the one configured, or that of `sft-flow up`; None where a run would
        start a server for itself.
    """
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or local_prefect_api()


def is_healthy(address: str) -> bool:
    """Ask a service whether it is up, as Prefect's API and MLflow's server both can be asked.

    Args:
        address: Its URL; Prefect's with /api.

    Returns:
        True when it answered.
    """
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def ask(api: str, path: str, question: dict[str, Any] | None = None) -> Any:
    """Put one question to a Prefect API.

    Args:
        api: Its address.
        path: Below the address.
        question: Filters, sent by POST; None asks by GET.

    Returns:
        The answer; None where there is no such thing.

    Raises:
        OSError: It does not answer, or refuses.
        ValueError: Its answer is no JSON.
    """
    request = urllib.request.Request(  # noqa: S310 - the user's server
        f"{api}{path}",
        data=None if question is None else json.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == NOT_FOUND:
            return None
        raise
