"""The Prefect server: its address, and Prefect's client of it with errors that say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.services.state import local_prefect_api
from schemas.errors import ConfigError, ServiceUnreachable, SftFlowError
from tasks.engine.local_server import is_listening
from tasks.engine.proxies import check_proxies, is_untrusted

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

API_VARIABLE = "PREFECT_API_URL"
ANSWER_SECONDS = 5.0
LOGIN_VARIABLE = "PREFECT_API_AUTH_STRING"
OWN_ADDRESS = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])[:/]")
OWN_PORT = re.compile(r"http://(127\.0\.0\.1|localhost):(\d+)/api$")
"""An address that `sft-flow up` can serve."""
FORBIDDEN = (401, 403)
PASSING_ERRORS = (429, 500, 502, 503, 504)
"""Of a server with too many requests, of one that fails, or of a proxy that does not reach it."""


def configured_api() -> str | None:
    """Return the API address of the environment or the Prefect profile; None if there is none."""
    from prefect.settings import get_current_settings

    return (get_current_settings().api.url or "").rstrip("/") or None


def known_api() -> str | None:
    """Return the API address of the configured server, or of `sft-flow up`; None if there is none."""
    return configured_api() or local_prefect_api()


@contextmanager
def use_api(address: str) -> Iterator[None]:
    """Let Prefect use a server inside the block.

    Args:
        address: Address of the API.

    Yields:
        Nothing.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    login = own_login(address)
    chosen = {PREFECT_API_AUTH_STRING: login} if login else {}
    with temporary_settings({PREFECT_API_URL: address, **chosen}):
        yield


def own_login(address: str) -> str:
    """Return the login of a server that is started here; empty if it has none, or the client has one."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    asked = settings.server.api.auth_string
    if not asked or settings.api.auth_string or not OWN_ADDRESS.match(address):
        return ""
    return asked.get_secret_value()


@contextmanager
def api_client(address: str, *, is_patient: bool = True) -> Iterator[SyncPrefectClient]:
    """Open Prefect's client, which knows login, TLS settings, headers and proxy.

    Args:
        address: Address of the API.
        is_patient: Wait and retry as Prefect does; otherwise, wait `ANSWER_SECONDS` once.

    Yields:
        The client.

    Raises:
        ServiceUnreachable: The server does not answer.
        ConfigError: The server rejects the login or the request, or is not a Prefect API; or a proxy
            of the environment cannot be used.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
        temporary_settings,
    )
    from pydantic import ValidationError

    check_proxies()
    # The check of the version would hide the error.
    chosen: dict[Any, Any] = {PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
    if not is_patient:
        chosen |= {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS}
    try:
        with (
            use_api(address),
            temporary_settings(chosen),
            get_client(sync_client=True) as client,
        ):
            yield client
    except httpx.HTTPStatusError as error:
        raise _refused(address, error) from error
    except httpx.UnsupportedProtocol as error:
        raise _wrong_place(address, str(error)) from error
    except httpx.HTTPError as error:
        raise _unreachable(address, str(error) or type(error).__name__) from error
    except httpx.InvalidURL as error:
        raise _wrong_place(address, str(error)) from error
    except (json.JSONDecodeError, ValidationError) as error:
        raise _wrong_place(address, "an answer that is not Prefect's") from error


def check_api(address: str) -> None:
    """Make a request that any run makes; the error is that of `api_client` if it fails."""
    with api_client(address, is_patient=False) as client:
        client.read_work_pools(limit=1)


def is_up(address: str) -> bool:
    """Return whether a server that is being started here answers already; an error if it rejects us."""
    port = urlsplit(address).port
    if not port or not is_listening(port):
        return False
    try:
        check_api(address)
    except ServiceUnreachable:
        return False
    return True


def _unreachable(address: str, got: str) -> ServiceUnreachable:
    expected, fix = "the running server of `sft-flow up`", "`sft-flow down`, then `sft-flow up`"
    if is_untrusted(got):
        expected = "a certificate that a known authority signed"
        fix = "set PREFECT_API_SSL_CERT_FILE to a file with the certificate of your authority"
    elif configured_api():
        expected = f"a running server ({API_VARIABLE} or the Prefect profile is set)"
        own = (
            f" (`sft-flow up --prefect-port {found[2]}`)"
            if (found := OWN_PORT.match(address))
            else ""
        )
        fix = (
            f"start it{own}; or unset {API_VARIABLE} (`prefect config unset {API_VARIABLE}` if it is in "
            "the profile) to use a server that is started here"
        )
    return ServiceUnreachable(
        "the Prefect server does not answer", where=address, expected=expected, got=got, fix=fix
    )


def _refused(address: str, error: httpx.HTTPStatusError) -> SftFlowError:
    status = error.response.status_code
    got = f"status {status} {error.response.reason_phrase}"
    if status in FORBIDDEN:
        return ConfigError(
            "the Prefect server does not accept the login",
            where=address,
            expected="user:password in PREFECT_API_AUTH_STRING, or a key in PREFECT_API_KEY",
            got=got,
            fix="set PREFECT_API_AUTH_STRING to the PREFECT_SERVER_API_AUTH_STRING of the server, or "
            "PREFECT_API_KEY for Prefect Cloud (`prefect cloud login`)",
        )
    if status == 407:
        return ConfigError(
            "the proxy in front of the Prefect server does not accept the login",
            where=address,
            expected="a proxy that passes the request on",
            got=got,
            fix="set HTTP_PROXY and HTTPS_PROXY to http://user:password@host:port, or add the server "
            "to NO_PROXY",
        )
    if status in PASSING_ERRORS:
        return _unreachable(address, got)
    if status in (404, 405):
        return _wrong_place(address, got)
    return ConfigError(
        "the Prefect server rejected the request",
        where=address,
        expected="a Prefect server of the version that is installed here",
        got=str(error).splitlines()[0],
        fix="update the older of server and client, see `sft-flow doctor`",
    )


def _wrong_place(address: str, got: str) -> ConfigError:
    fix = f"correct {API_VARIABLE}; if it is unset, a server is started here"
    if not address.startswith(("http://", "https://")):
        fix = (
            f"start {API_VARIABLE} with http:// or https://, without quotes; or unset it to use a server "
            "that is started here"
        )
    elif "/api" not in address:
        fix = f"set {API_VARIABLE}={address}/api, or unset it to use a server that is started here"
    return ConfigError(
        "there is no Prefect API at this address",
        where=address,
        expected="the address of an API, such as http://127.0.0.1:4200/api",
        got=got,
        fix=fix,
    )
