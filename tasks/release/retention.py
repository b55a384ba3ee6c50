"""Delete the weights of old versions that were not promoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from schemas.config.gates import DecisionMode
from schemas.config.registry import RegistryConfig
from schemas.records.decision import Decision
from tasks.registry.aliases import settled_aliases
from tasks.registry.approvals import read_answer
from tasks.registry.store import model_id_of, store_errors
from tasks.registry.tags import (
    ADAPTER_FOLDER,
    ADAPTER_TAG,
    DECISION_TAG,
    FINGERPRINT_TAG,
    MODE_TAG,
    PROMOTED_AT_TAG,
    WEIGHTS_TAG,
)
from tasks.registry.versions import search_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

DELETING = "deleting"
"""Set before the files are deleted, so that the next run finishes an interrupted deletion."""
DELETED = "deleted"
LEASE_WAIT_SECONDS = 5.0
"""For another holder of the lease; a later run finds the same versions."""


class Pruned(NamedTuple):
    """What was deleted."""

    freed_bytes: int
    versions: tuple[int, ...]


def prune_unpromoted(
    client: MlflowClient, registry: RegistryConfig, warn: Callable[..., object]
) -> Pruned:
    """Delete the weights of old versions that were not promoted; metrics, tags and lineage stay.

    A version keeps its weights if it is among the last `registry.keep_rejected` of them, has an
    alias, shares its files with another version, or is not of this product. Nothing is deleted
    while a promotion is under way, and nothing that goes wrong fails a run.

    Args:
        client: The store.
        registry: Name, and number of versions that keep their weights.
        warn: Gets a format string and its arguments for what could not be deleted.

    Returns:
        What was deleted.
    """
    name = registry.name
    freed_bytes = 0
    versions: list[int] = []
    try:
        with store_errors():
            if not find_surplus(client, registry.keep_rejected, name):
                return Pruned(0, ())
            with settled_aliases(client, name, LEASE_WAIT_SECONDS) as lease:
                for version in find_surplus(client, registry.keep_rejected, name):
                    try:
                        lease.require()
                        n_bytes = _delete_weights(client, version)
                    except Exception as error:
                        where = f"{name} version {version.version}"
                        warn("the weights of %s are not deleted yet: %s", where, error)
                        continue
                    if n_bytes is not None:
                        freed_bytes += n_bytes
                        versions.append(int(version.version))
    except Exception as error:  # e.g. a promotion is under way; the next run tries again
        warn("old weights of %s are not deleted yet: %s", name, error)
    return Pruned(freed_bytes, tuple(versions))


def _delete_weights(client: MlflowClient, version: ModelVersion) -> int | None:
    """Delete the files of one version, unless a person gives it an alias meanwhile."""
    name, number = version.name, version.version
    client.set_model_version_tag(name, number, WEIGHTS_TAG, DELETING)
    if not is_free(client, version):
        client.delete_model_version_tag(name, number, WEIGHTS_TAG)
        return None
    freed_bytes = delete_model_files(client, model_id_of(str(version.source)))
    if ADAPTER_TAG in version.tags and version.run_id:
        freed_bytes += _delete_adapter(client, version.run_id)
    client.set_model_version_tag(name, number, WEIGHTS_TAG, DELETED)
    return freed_bytes


def is_unpromoted(tags: Mapping[str, str]) -> bool:
    """Return whether a version was evaluated by this product and not promoted.

    The gates or a reviewer refused it, or its run was a dry run and it was never promoted since.
    """
    if FINGERPRINT_TAG not in tags:
        return False
    answer = read_answer(tags)
    is_declined = answer is not None and not answer.is_approved
    is_dry_run = tags.get(MODE_TAG) == DecisionMode.DRY_RUN.value
    is_passed_over = (is_declined or is_dry_run) and not tags.get(PROMOTED_AT_TAG)
    return tags.get(DECISION_TAG) == Decision.REFUSE.value or is_passed_over


def find_surplus(client: MlflowClient, n_kept: int, name: str) -> list[ModelVersion]:
    """Find the versions, newest first, whose weights are to be deleted and still exist."""
    found = search_versions(client, name)
    ordered = [version for version in found if is_unpromoted(version.tags)]
    return [
        version
        for version in ordered[n_kept:]
        if version.tags.get(WEIGHTS_TAG) != DELETED and is_free(client, version)
    ]


def is_free(client: MlflowClient, version: ModelVersion) -> bool:
    """Check that a version has no alias, and that no other version needs its files.

    A copy of a version has that version as its source, under any name, and may be copied itself.
    """
    aliases = client.get_registered_model(version.name).aliases
    if int(version.version) in {int(number) for number in aliases.values()}:
        return False
    sharing = client.search_model_versions(f"source_path = '{version.source}'")
    sharing += client.search_model_versions(
        f"source_path = 'models:/{version.name}/{version.version}'"
    )
    return all(
        WEIGHTS_TAG in other.tags
        for other in sharing
        if (other.name, int(other.version)) != (version.name, int(version.version))
    )


def delete_model_files(client: MlflowClient, model_id: str) -> int:
    """Delete the files of a logged model from the store, and return the freed bytes.

    MLflow's own deletion of a logged model only marks it; the files stay until a garbage
    collection on the server. A logged model that is gone already frees nothing.
    """
    with _gone_is_deleted():
        return _delete_files(str(client.get_logged_model(model_id).artifact_location))
    return 0


def _delete_adapter(client: MlflowClient, run_id: str) -> int:
    """Delete the adapter that a run has next to the merged model, and return the freed bytes."""
    from mlflow.utils.uri import append_to_uri_path

    with _gone_is_deleted():
        place = client.get_run(run_id).info.artifact_uri
        return _delete_files(append_to_uri_path(place, ADAPTER_FOLDER))
    return 0


@contextmanager
def _gone_is_deleted() -> Iterator[None]:
    """End the block where the store does not know what is to be deleted."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _delete_files(place: str) -> int:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(place)
    n_bytes = sum(_file_sizes(repository, None))
    for entry in repository.list_artifacts(None):
        repository.delete_artifacts(entry.path)
    return n_bytes - sum(_file_sizes(repository, None))


def _file_sizes(repository: ArtifactRepository, folder: str | None) -> Iterator[int]:
    for entry in repository.list_artifacts(folder):
        if entry.is_dir:
            yield from _file_sizes(repository, entry.path)
        else:
            yield int(entry.file_size or 0)
