"""Delete the weights of old refused versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from schemas.config.registry import RegistryConfig
from schemas.records.decision import Decision
from tasks.registry.store import model_id_of, store_errors
from tasks.registry.tags import DECISION_TAG, FINGERPRINT_TAG, WEIGHTS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

DELETING = "deleting"
"""Set before the files are deleted, so that the next run finishes an interrupted deletion."""
DELETED = "deleted"


class Pruned(NamedTuple):
    """What was deleted."""

    freed_bytes: int
    versions: tuple[int, ...]


def prune_refused(client: MlflowClient, registry: RegistryConfig, name: str) -> Pruned:
    """Delete the weights of old refused versions; metrics, tags and lineage stay.

    A version keeps its weights if it is among the last `registry.keep_rejected` refused ones, has
    an alias, or was not refused by this product.
    """
    freed_bytes = 0
    versions: list[int] = []
    with store_errors():
        for version in find_surplus(client, registry.keep_rejected, name):
            client.set_model_version_tag(name, version.version, WEIGHTS_TAG, DELETING)
            if not is_free(client, version):  # e.g. promoted meanwhile
                client.delete_model_version_tag(name, version.version, WEIGHTS_TAG)
                continue
            freed_bytes += delete_model_files(client, model_id_of(str(version.source)))
            client.set_model_version_tag(name, version.version, WEIGHTS_TAG, DELETED)
            versions.append(int(version.version))
    return Pruned(freed_bytes, tuple(versions))


def find_surplus(client: MlflowClient, n_kept: int, name: str) -> list[ModelVersion]:
    """Find the refused versions, newest first, whose weights are to be deleted and still exist."""
    refused = client.search_model_versions(
        f"name = '{name}' and tags.`{DECISION_TAG}` = '{Decision.REFUSE.value}'"
    )
    ordered = sorted(refused, key=lambda one: int(one.version), reverse=True)
    return [
        version
        for version in ordered[n_kept:]
        if version.tags.get(WEIGHTS_TAG) != DELETED and is_free(client, version)
    ]


def is_free(client: MlflowClient, version: ModelVersion) -> bool:
    """Check that the files of a version are not needed.

    True for a version that this product refused, that has no alias, and whose logged model no
    other version shares, unless the weights of that one are deleted too.
    """
    name = version.name
    found = client.get_model_version(name, version.version)
    is_refused = found.tags.get(DECISION_TAG) == Decision.REFUSE.value
    if not is_refused or FINGERPRINT_TAG not in found.tags:
        return False
    aliases = client.get_registered_model(name).aliases
    if int(version.version) in {int(number) for number in aliases.values()}:
        return False
    sharing = client.search_model_versions(f"source_path = '{version.source}'")
    return all(
        WEIGHTS_TAG in other.tags
        for other in sharing
        if (other.name, int(other.version)) != (name, int(version.version))
    )


def delete_model_files(client: MlflowClient, model_id: str) -> int:
    """Delete the files of a logged model from the store, and return the freed bytes.

    MLflow's own deletion of a logged model only marks it; the files stay until a garbage
    collection on the server.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = client.get_logged_model(model_id).artifact_location
    repository = get_artifact_repository(str(place))
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
