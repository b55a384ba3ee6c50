"""Requests to the Prefect server: its address, health and API."""

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
    """Return the API address of the configured server, or of `sft-flow up`; None if there is none."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or local_prefect_api()


def is_healthy(address: str) -> bool:
    """Return whether a service answers at /health: a Prefect API (URL with /api) or an MLflow server."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def ask(api: str, path: str, question: dict[str, Any] | None = None) -> Any:
    """Send one request to a Prefect API.

    Args:
        api: Address of the API.
        path: Path below the address.
        question: Filters, sent by POST; None for GET.

    Returns:
        The answer; None for status 404.

    Raises:
        OSError: The API does not answer, or rejects the request.
        ValueError: The answer is not JSON.
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
