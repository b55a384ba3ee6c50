"""The end of a run in the registry: the alias of the last evaluated version, and old weights."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from schemas.config.run import RunConfig
from schemas.records.references import DatasetReference, VersionReference
from tasks.engine.cache import locate
from tasks.engine.keys import file_sha256
from tasks.engine.stage import PLAN, retried_task
from tasks.engine.wording import mebibytes
from tasks.registry.lineage import settings_sha256
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import EVALUATED_AT_TAG, ROW_DIGESTS_TAG, SETTINGS_TAG
from tasks.release.retention import prune_unpromoted
from tasks.release.run_files import DATA_FOLDER
from tasks.sources.row_digests import ROW_DIGESTS

if TYPE_CHECKING:
    from mlflow import MlflowClient


@retried_task
def close_run(config: RunConfig, dataset: DatasetReference, version: VersionReference) -> None:
    """Mark the version as the last evaluated one, and delete old weights.

    An act of every run and not of a stage: a run whose stages are all cached evaluates its version
    again as much as one that computes them, and retrains compare with the last evaluated version.
    """
    if PLAN.get() is not None:
        return
    client = connect()
    logger = get_run_logger()
    note_evaluated(client, config, dataset, version)
    pruned = prune_unpromoted(client, config.registry, logger.warning)
    if pruned.versions:
        numbers = ", ".join(map(str, pruned.versions))
        freed = mebibytes(pruned.freed_bytes)
        logger.info("deleted the weights of versions %s, which freed %s", numbers, freed)


def note_evaluated(
    client: MlflowClient, config: RunConfig, dataset: DatasetReference, version: VersionReference
) -> None:
    """Set the challenger alias on the version, with the rows, the settings and the time of this run.

    Several datasets may give one version, as rows that are set aside do not count in it.

    Args:
        client: The store.
        config: The resolved configuration.
        dataset: The rows of the run.
        version: The version that was evaluated.
    """
    name, number = version.name, str(version.version)
    alias = config.registry.challenger_alias
    digests = locate(dataset, ROW_DIGESTS)
    with store_errors():
        tags = client.get_model_version(name, number).tags
        if tags.get(ROW_DIGESTS_TAG) != file_sha256(digests):
            client.log_artifact(version.run_id, str(digests), DATA_FOLDER)
            client.set_model_version_tag(name, number, ROW_DIGESTS_TAG, file_sha256(digests))
        if tags.get(SETTINGS_TAG) != settings_sha256(config):
            client.set_model_version_tag(name, number, SETTINGS_TAG, settings_sha256(config))
        if alias_holder(client, name, alias) != version.version:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            client.set_model_version_tag(name, number, EVALUATED_AT_TAG, now)
            client.set_registered_model_alias(name, alias, number)
