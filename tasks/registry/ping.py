"""Check that the server of the MLflow store answers us, before anything depends on it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from schemas.errors import ConfigError
from tasks.engine.home import TRACKING_VARIABLE
from tasks.registry._faults import FORBIDDEN_STATUSES, forbidden, unreachable

PING_SECONDS = 5.0
REASON_LENGTH = 200
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}
GATEWAY_STATUSES = (502, 503, 504)
ANY_REQUEST = "/api/2.0/mlflow/experiments/search"
"""Needs a login and an accepted host name like every request of a run; `/health` does not."""


def ping(uri: str) -> None:
    """Check that the server of the store answers us; a file-based store needs no server.

    A server that is asked by HTTP is asked through MLflow, which knows the proxy and TLS settings.

    Args:
        uri: An MLflow tracking URI.

    Raises:
        ServiceUnreachable: Nothing answers there.
        RegistryForbidden: The server does not accept the login, or the name it is called by.
        ConfigError: The address cannot be read.
    """
    try:
        address = urlsplit(uri)
        _ = address.port
    except ValueError:  # its text may be a part of the password
        raise ConfigError(
            "the address of the MLflow server cannot be read",
            where=TRACKING_VARIABLE,
            expected="http://user:password@host:port",
            got="a port that is not a number",
            fix="write special characters of the password as %-escapes, or set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        ) from None
    scheme = address.scheme.split("+")[0]
    try:
        if scheme in ("http", "https"):
            _request(uri)
        elif scheme in DATABASE_PORTS and address.hostname:
            where = (address.hostname, address.port or DATABASE_PORTS[scheme])
            socket.create_connection(where, timeout=PING_SECONDS).close()
    except PermissionError as error:
        raise forbidden(uri, error) from error
    except OSError as error:
        raise unreachable(uri, error) from error


def _request(uri: str) -> None:
    """Send one request; any status is an answer, but for a refusal and a proxy that finds no server.

    Args:
        uri: Address of the server.

    Raises:
        ConnectionError: The server does not answer.
        PermissionError: It does not let us in.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            ANY_REQUEST,
            "GET",
            params={"max_results": 1},
            max_retries=0,
            timeout=PING_SECONDS,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise ConnectionError(str(error)) from error
    status = f"status {answer.status_code} {answer.reason}"
    if answer.status_code in GATEWAY_STATUSES:
        raise ConnectionError(status)
    if answer.status_code in FORBIDDEN_STATUSES:
        reason = next(iter(answer.text[:REASON_LENGTH].splitlines()), "")
        raise PermissionError(f"{status}: {reason}" if reason else status)
