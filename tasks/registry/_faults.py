"""Errors of MLflow and its databases as errors of this product."""

from __future__ import annotations

import re
import traceback

from schemas.errors import (
    RegistryBusy,
    RegistryError,
    RegistryForbidden,
    ServiceUnreachable,
    SftFlowError,
)
from tasks.engine.home import tracking_uri
from tasks.engine.proxies import is_untrusted

FORBIDDEN_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
FORBIDDEN_TEXT = re.compile(r"(?i)readonly database|permission denied for")
"""Of databases."""
STATUS = re.compile(r"failed with error code (\d{3})")
FORBIDDEN_STATUSES = (401, 403, 407)
SIMULTANEOUS_TEXT = re.compile(
    r"(?i)unique constraint|duplicate (?:key|entry)"
    r"|statement on table '\w+' expected to (?:update|delete)"
)
"""Of SQLite, PostgreSQL, MySQL and SQLAlchemy, also through a server: two processes wrote or deleted
the same tag or alias."""
HOST_TEXT = "Invalid Host header"
"""Of an MLflow server that is called by a name it does not know."""
TRANSIENT_STATUSES = (408, 425, 429)
"""Of 4xx: the same request can succeed later."""


def store_fault(error: Exception) -> SftFlowError | None:
    """Return the error that a failed request stands for; None for MLflow's answer to a valid one."""
    text, code, status = str(error), getattr(error, "error_code", ""), _status_of(error)
    has_code = "error_code" in (getattr(error, "json", None) or {"error_code": ""})
    if status in FORBIDDEN_STATUSES or code in FORBIDDEN_CODES or FORBIDDEN_TEXT.search(text):
        return forbidden(tracking_uri(), error)
    if is_simultaneous(error):
        return RegistryBusy(
            "another process wrote the same to the MLflow store at the same moment",
            where=tracking_uri(),
            expected="one of them at a time",
            got=text.partition("\n")[0],
            fix="none needed in a run, which tries again; else repeat the command",
        )
    is_unknown = code == "ENDPOINT_NOT_FOUND" or (status == 404 and not has_code)
    if is_unknown or "not in a valid JSON format" in text:
        return RegistryError(
            "this address is not that of an MLflow server, or of one that is too old",
            where=tracking_uri(),
            expected="a server started by `mlflow server`, of the version that is installed here",
            got=text,
            fix="correct MLFLOW_TRACKING_URI, or update MLflow on the server",
        )
    if status == 404 and not code:
        return None  # of an artifact
    is_page = bool(STATUS.search(text)) or not has_code or not code
    is_refusal = status is not None and 400 <= status < 500 and status not in TRANSIENT_STATUSES
    if is_page and is_refusal:
        return RegistryError(
            f"the MLflow server, or a proxy in front of it, refused a request with status {status}",
            where=tracking_uri(),
            expected="a server that accepts every request of MLflow",
            got=text,
            fix="update MLflow on the server, or change the limits of the proxy: size of a request "
            "for status 413, methods for 405",
        )
    is_lost = code in ("", "TEMPORARILY_UNAVAILABLE") or "API request to" in text or not has_code
    return unreachable(tracking_uri(), error) if is_lost else None


def is_simultaneous(error: Exception) -> bool:
    """Return whether a write failed because another process wrote the same at the same moment."""
    return bool(SIMULTANEOUS_TEXT.search(str(error)))


def _status_of(error: Exception) -> int | None:
    """Return the HTTP status; MLflow has it in no attribute, only where it raised the error."""
    if found := STATUS.search(str(error)):
        return int(found[1])
    response = getattr(error, "response", None)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if response is None and frame.f_code.co_name == "verify_rest_response":
            response = frame.f_locals.get("response")
    return getattr(response, "status_code", None)


def unreachable(uri: str, error: Exception) -> ServiceUnreachable:
    """Build the error of a store that does not answer, or whose certificate is not trusted."""
    fix = "start it, correct MLFLOW_TRACKING_URI, or unset it to use SQLite in the work directory"
    if is_untrusted(str(error)):
        fix = (
            "set MLFLOW_TRACKING_SERVER_CERT_PATH to a file with the certificate of your authority, or "
            "REQUESTS_CA_BUNDLE for all servers"
        )
    return ServiceUnreachable(
        "the MLflow server cannot be reached",
        where=uri,
        expected="an MLflow tracking server that answers",
        got=str(error),
        fix=fix,
    )


def forbidden(uri: str, error: Exception) -> RegistryForbidden:
    """Build the error of a store that answers, but does not let this user in or write."""
    if HOST_TEXT in str(error):
        return RegistryForbidden(
            "the MLflow server does not accept requests for this host name",
            where=uri,
            expected="an address that `--allowed-hosts` of `mlflow server` lists",
            got=str(error),
            fix="start `mlflow server` with `--allowed-hosts` and this host and port, or correct "
            "MLFLOW_TRACKING_URI",
        )
    return RegistryForbidden(
        "the MLflow server does not allow this",
        where=uri,
        expected="a user who may read and write the experiment, the model and its artifacts",
        got=str(error),
        fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or "
        "ask the owner of the server for permission",
    )
