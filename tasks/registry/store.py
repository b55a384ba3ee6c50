"""Connect to the MLflow store, and find and create versions in it."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import RegistryError
from schemas.redaction import clean_errors
from tasks.engine.home import (
    TRACKING_VARIABLE,
    artifact_location,
    sqlite_file,
    take_credentials,
    tracking_uri,
    work_directory,
)
from tasks.registry._faults import store_fault
from tasks.registry._opening import create_store, open_other, taking_turns
from tasks.registry.addresses import follow_move
from tasks.registry.ping import ping
from tasks.registry.tags import FINGERPRINT_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

IGNORED_VARIABLES = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
)
"""They would continue another run, or write to another experiment, store or model, or later."""


def ignored_variables() -> tuple[str, ...]:
    """Return variables of MLflow that are set and would lead runs or versions elsewhere."""
    return tuple(name for name in IGNORED_VARIABLES if os.environ.get(name))


def connect() -> MlflowClient:
    """Open `MLFLOW_TRACKING_URI`, or SQLite in the work directory, and silence start-up messages.

    `IGNORED_VARIABLES` are removed from the environment of this process.
    """
    for name in IGNORED_VARIABLES:
        os.environ.pop(name, None)
    take_credentials()
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
    file = sqlite_file(uri)
    if not file:
        return open_other(uri)
    # What the client imports takes seconds, for which no other run has to wait.
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store

    work_directory().mkdir(parents=True, exist_ok=True)
    # Two runs that find a new file would both create its tables, and one of them would fail.
    with taking_turns():
        if not file.exists():
            create_store(file)
        client = mlflow.MlflowClient()
        follow_move()
        return client


@contextmanager
def store_errors() -> Iterator[None]:
    """Convert errors of the store, and remove secrets from those that stay as they are.

    A network error becomes ServiceUnreachable, which is retried; a refusal becomes
    RegistryForbidden, and an answer that is not MLflow's RegistryError.
    """
    import requests
    from mlflow.exceptions import MlflowException

    with clean_errors():
        try:
            yield
        except (requests.RequestException, MlflowException) as error:
            if fault := store_fault(error):
                raise fault from error
            raise


def experiment_id(client: MlflowClient, name: str) -> str:
    """Find or create an experiment; in the default store its artefacts are in the work directory.

    Args:
        client: The store.
        name: Of the experiment.

    Returns:
        Its id.

    Raises:
        RegistryError: The experiment was deleted, and its name is taken until it is restored.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        raise RegistryError(
            "the MLflow experiment was deleted",
            where=f"registry.experiment={name}",
            expected="an experiment that runs can be written to",
            got=f"experiment {found.experiment_id}, deleted",
            fix=f"`MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or set registry.experiment to another name",
        )
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


def has_artifact(client: MlflowClient, run_id: str, path: str) -> bool:
    """Check that a run has a file in a folder; False for a run that was deleted for good."""
    from mlflow.exceptions import MlflowException

    try:
        files = client.list_artifacts(run_id, path.split("/")[0])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return path in {file.path for file in files}


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
