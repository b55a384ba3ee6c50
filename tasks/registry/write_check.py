"""Check before a training that its result can be registered: write to the store, and undo it."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryError, RegistryForbidden, SftFlowError
from tasks.engine.home import tracking_uri
from tasks.engine.scratch import scratch_folder
from tasks.registry._faults import is_simultaneous
from tasks.registry.store import connect, experiment_id, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PROBE = "sft-flow-check"
PROBE_TEXT = "ok"


def check_writes(registry: RegistryConfig, *, is_training: bool) -> str:
    """Set and delete a tag of experiment and model, and write, read and delete a small artifact.

    Args:
        registry: Experiment and name.
        is_training: Create the experiment and the registered model if they do not exist, as
            the run would do after its training; otherwise their checks are left out.

    Returns:
        Where artifacts go; empty if the experiment does not exist.
    """
    client = connect()
    with store_errors():
        found = client.get_experiment_by_name(registry.experiment)
        if found is None and not is_training:
            return ""
        experiment = client.get_experiment(experiment_id(client, registry.experiment))
        _try_tags(client, experiment, registry.name, is_training=is_training)
    check_artifact_root(client, experiment)
    return str(experiment.artifact_location)


def _try_tags(
    client: MlflowClient, experiment: Experiment, name: str, *, is_training: bool
) -> None:
    """Set and delete a tag of the experiment, and one of the registered model."""
    from mlflow.exceptions import MlflowException

    with _passing():
        client.set_experiment_tag(experiment.experiment_id, PROBE, PROBE_TEXT)
    with _passing("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"):  # of another run; old servers
        client.delete_experiment_tag(experiment.experiment_id, PROBE)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        if not is_training:
            return
        with _passing("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(name)
    with _passing():
        client.set_registered_model_tag(name, PROBE, PROBE_TEXT)
    with _passing("RESOURCE_DOES_NOT_EXIST"):
        client.delete_registered_model_tag(name, PROBE)


@contextlib.contextmanager
def _passing(*codes: str) -> Iterator[None]:
    """Pass over errors of MLflow with these codes, and over what another check wrote meanwhile."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes and not is_simultaneous(error):
            raise


def check_artifact_root(client: MlflowClient, experiment: Experiment) -> None:
    """Write, read and delete a small file where the artifacts of an experiment go.

    Args:
        client: The store.
        experiment: With its artifact root.

    Raises:
        RegistryForbidden: The file cannot be written, read or deleted.
    """
    from mlflow.utils.uri import is_local_uri

    place = str(experiment.artifact_location)
    try:
        with store_errors():
            if is_local_uri(place) and tracking_uri().startswith(("http://", "https://")):
                _require_same_disk(client, experiment)
            else:
                write_read_delete(place)
    except (SftFlowError, ModuleNotFoundError):
        raise  # the latter names the extra that is missing
    except Exception as error:  # each kind of store has errors of its own
        raise RegistryForbidden(
            "the artifact store cannot be written",
            where=place,
            expected="a store where a file can be written, read and deleted",
            got=f"{type(error).__name__}: {error}",
            fix="correct permissions, credentials or the address of the store",
        ) from error


def check_default_root() -> str:
    """Check the artifact root of a server's first experiment, where new ones get theirs.

    Returns:
        The root; empty for a store without a server.
    """
    if not tracking_uri().startswith(("http://", "https://")):
        return ""
    client = connect()
    with store_errors():
        experiment = client.get_experiment("0")
    check_artifact_root(client, experiment)
    return str(experiment.artifact_location)


def write_read_delete(place: str) -> None:
    """Write a small file to an artifact store, read it, and delete it.

    Args:
        place: Address of the store, or of a folder in it.

    Raises:
        OSError: Something else was read than was written.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(place)
    with scratch_folder() as scratch:
        probe = scratch / f"{PROBE}-{uuid.uuid4().hex[:8]}"
        probe.write_text(PROBE_TEXT, encoding="utf-8")
        repository.log_artifact(str(probe))
        try:
            back = scratch / "back"
            back.mkdir()
            found = repository.download_artifacts(probe.name, str(back))
            if Path(found).read_text(encoding="utf-8") != PROBE_TEXT:
                raise OSError(f"{probe.name} was read with other content")
        finally:
            repository.delete_artifacts(probe.name)


def _require_same_disk(client: MlflowClient, experiment: Experiment) -> None:
    """Write to a folder that the server named, and ask the server whether it has the file.

    Files in a folder of this machine would be lost to a server on another one.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    run = client.create_run(experiment.experiment_id, run_name=PROBE)
    client.set_terminated(run.info.run_id)  # a process that is killed leaves no run RUNNING
    folder = Path(local_file_uri_to_path(str(run.info.artifact_uri)))
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        write_error = ""
        try:
            client.log_text(run.info.run_id, PROBE_TEXT, PROBE)
        except OSError as error:
            write_error = f"{type(error).__name__}: {error}"
        if not write_error and PROBE in _files_on_server(run.info.run_id):
            return
        raise RegistryError(
            "the artifacts of this experiment go to a folder on the disk of the MLflow server",
            where=f"experiment {experiment.name}, {experiment.artifact_location}",
            expected="a folder that this machine shares with the server, or a store of the server",
            got=write_error or "the server does not have a file that was written there",
            fix="start the server with --artifacts-destination, so that it stores the files itself, or "
            "with an S3 root; then set registry.experiment to a new name, since an experiment "
            "keeps its root",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run may have written to one of them
            for one in missing[1:]:
                one.rmdir()
        client.delete_run(run.info.run_id)


def _files_on_server(run_id: str) -> set[str]:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    endpoint = "/api/2.0/mlflow/artifacts/list"
    answer = http_request(
        get_default_host_creds(tracking_uri()), endpoint, "GET", params={"run_id": run_id}
    )
    files = verify_rest_response(answer, endpoint).json().get("files", ())
    return {str(file["path"]) for file in files}
