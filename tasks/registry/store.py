"""Connect to the MLflow store, and find and create versions in it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock

from schemas.errors import ServiceUnreachable
from tasks.engine.home import (
    TRACKING_VARIABLE,
    artifact_location,
    sqlite_file,
    tracking_uri,
    work_directory,
)
from tasks.registry.tags import FINGERPRINT_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

PING_SECONDS = 5.0


def ping(uri: str) -> None:
    """Check that the server of the store listens; a file-based store needs no server.

    Args:
        uri: An MLflow tracking URI.

    Raises:
        ServiceUnreachable: Nothing listens there.
    """
    address = urlsplit(uri)
    ports = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
    scheme = address.scheme.split("+")[0]
    if scheme not in ports or not address.hostname:
        return
    try:
        where = (address.hostname, address.port or ports[scheme])
        socket.create_connection(where, timeout=PING_SECONDS).close()
    except OSError as error:
        raise unreachable(uri, error) from error


def unreachable(uri: str, error: Exception) -> ServiceUnreachable:
    """Build the error of a store that does not answer, without the password of its address."""
    address = urlsplit(uri)
    shown = uri.replace(f":{address.password}@", ":***@") if address.password else uri
    return ServiceUnreachable(
        "the MLflow server cannot be reached",
        where=shown,
        expected="an MLflow tracking server that answers",
        got=str(error),
        fix="start it, correct MLFLOW_TRACKING_URI, or unset it to use SQLite in the work directory",
    )


def connect() -> MlflowClient:
    """Open `MLFLOW_TRACKING_URI`, or SQLite in the work directory, and silence start-up messages."""
    for name in ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = tracking_uri()
    ping(uri)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    configured = os.environ.get(TRACKING_VARIABLE)
    mlflow.set_tracking_uri(uri)
    if configured is None:
        # MLflow exports the address, which would then look like a choice of the user.
        os.environ.pop(TRACKING_VARIABLE, None)
    if not sqlite_file(uri):
        return mlflow.MlflowClient()
    work_directory().mkdir(parents=True, exist_ok=True)
    # Two runs that find a new file would both create its tables, and one of them would fail.
    with FileLock(work_directory() / "mlflow.lock"):
        return mlflow.MlflowClient()


@contextmanager
def store_errors() -> Iterator[None]:
    """Convert network errors of the store into ServiceUnreachable, which is retried."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except requests.RequestException as error:
        raise unreachable(tracking_uri(), error) from error
    except MlflowException as error:
        if error.error_code in ("TEMPORARILY_UNAVAILABLE",) or "API request to" in str(error):
            raise unreachable(tracking_uri(), error) from error
        raise


def experiment_id(client: MlflowClient, name: str) -> str:
    """Find or create an experiment; in the default store its artefacts are in the work directory."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=artifact_location()))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or not found:
            raise
        return str(found.experiment_id)  # another run created it meanwhile


def alias_holder(client: MlflowClient, name: str, alias: str) -> int | None:
    """Return the version with an alias; None if the model or the alias does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def has_model_files(client: MlflowClient, model_uri: str) -> bool:
    """Check that the files of a logged model, `models:/<id>`, are still in the store."""
    from mlflow.exceptions import MlflowException

    try:
        files = client.list_logged_model_artifacts(model_id_of(model_uri))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return "MLmodel" in {file.path.rsplit("/", 1)[-1] for file in files}


def model_id_of(model_uri: str) -> str:
    """Return the id of a logged model from its address, `models:/<id>`."""
    return model_uri.rsplit("/", 1)[-1]


class FoundVersion(NamedTuple):
    """A version in the registry."""

    version: int
    run_id: str
    model_uri: str
    """`models:/<id>` of the logged model."""
    tags: dict[str, str]


def find_version(client: MlflowClient, name: str, fingerprint: str) -> FoundVersion | None:
    """Find the version of a result, the first one if two processes have created one each.

    Args:
        client: The store.
        name: Registered model name.
        fingerprint: From `version_fingerprint`.

    Returns:
        The version; None if there is none, or its run or logged model was deleted for good.
    """
    found = client.search_model_versions(
        f"name = '{name}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"
    )
    for version in sorted(found, key=lambda one: int(one.version)):
        source = str(version.source)
        if version.run_id and _exists(client, str(version.run_id), model_id_of(source)):
            return FoundVersion(
                int(version.version), str(version.run_id), source, dict(version.tags)
            )
    return None


def _exists(client: MlflowClient, run_id: str, model_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
        client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def create_version(
    client: MlflowClient, name: str, source: tuple[str, str], tags: dict[str, str], description: str
) -> int:
    """Register a logged model as the next version of a name, with its tags and description at once.

    Args:
        client: The store.
        name: Registered model name; created if it is new.
        source: The run that logged the model, and `models:/<id>` of the logged model.
        tags: Lineage.
        description: Markdown.

    Returns:
        The number of the version.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    run_id, model_uri = source
    version = client.create_model_version(
        name,
        model_uri,
        run_id=run_id,
        tags=tags,
        model_id=model_id_of(model_uri),
        description=description,
    )
    return int(version.version)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings into dotted names and texts."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
