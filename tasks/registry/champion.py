"""The registered version a challenger has to beat, and its files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.registry import RegistryConfig
from schemas.errors import ModelSourceError
from schemas.rules.profile import DataProfile, parse_profile
from tasks.engine.home import has_store, tracking_uri
from tasks.engine.redaction import without_secrets
from tasks.engine.scratch import scratch_folder
from tasks.registry.aliases import settle_aliases, version_exists
from tasks.registry.store import alias_holder, connect, has_artifact, has_model_files, store_errors
from tasks.registry.tags import (
    CHAMPION_TAG,
    DATASET_TAG,
    MODEL_TAG,
    TEMPLATE_SHA256_TAG,
    WEIGHTS_TAG,
)
from tasks.registry.versions import fetch_registered, find_registered

if TYPE_CHECKING:
    from mlflow import MlflowClient


LOGGER = logging.getLogger(__name__)
PROFILE_ARTIFACT = "data/profile.json"


@dataclass(frozen=True)
class Opponent:
    """A registered version to beat."""

    name: str
    version: int
    run_id: str
    model_sha256: str
    """From its tag; empty for a version without it."""
    template_sha256: str = ""
    """Of its chat template, from its tag; empty for a version without it."""
    compared_with: str = ""
    """Version that it was compared with when it was evaluated, none, or empty if unknown."""
    has_weights: bool = True

    @property
    def address(self) -> str:
        """Return the address of the version."""
        return f"models:/{self.name}/{self.version}"

    @property
    def fingerprint(self) -> str:
        """Identify the version and its content."""
        return f"version {self.version} {self.model_sha256 or f'run {self.run_id}'}"

    def is_model(self, sha256: str) -> bool:
        """Return whether the version is this very model, whatever it was registered for."""
        return bool(sha256) and self.model_sha256 == sha256


def find_holder(client: MlflowClient, name: str, alias: str) -> Opponent | None:
    """Find the version with an alias; None without one."""
    version = alias_holder(client, name, alias)
    return None if version is None else _read_version(client, name, version)


def find_opponent(registry: RegistryConfig, own_sha256: str) -> Opponent | None:
    """Find the version that a model has to beat; None if only the base counts.

    It is the champion; where no version has that alias, e.g. after it was deleted by hand, the
    previous one. A model that is champion itself is compared with the version with which the
    champion was compared, so that a repeated run changes nothing, also after a roll-back.
    """
    client, name = connect(), registry.name
    with store_errors():
        settle_aliases(client, name)
        champion = find_holder(client, name, registry.alias)
        if champion and not champion.is_model(own_sha256):
            return champion
        if champion and champion.compared_with:
            return _opponent_of(client, champion)
        previous = find_holder(client, name, registry.previous_alias)
    return None if previous is None or previous.is_model(own_sha256) else previous


def has_files(client: MlflowClient, version: Opponent) -> bool:
    """Return whether the files of a version are still in the store."""
    source = str(client.get_model_version(version.name, str(version.version)).source)
    return version.has_weights and has_model_files(client, source)


def _opponent_of(client: MlflowClient, champion: Opponent) -> Opponent | None:
    """Find the version with which the champion was compared, if it can still be loaded."""
    text = champion.compared_with
    if not text.isdigit() or not version_exists(client, champion.name, int(text)):
        return None
    found = _read_version(client, champion.name, int(text))
    is_same = found.is_model(champion.model_sha256)
    return None if is_same or not has_files(client, found) else found


def _read_version(client: MlflowClient, name: str, version: int) -> Opponent:
    found = client.get_model_version(name, str(version))
    return Opponent(
        name,
        version,
        str(found.run_id),
        model_sha256=str(found.tags.get(MODEL_TAG, "")),
        template_sha256=str(found.tags.get(TEMPLATE_SHA256_TAG, "")),
        compared_with=str(found.tags.get(CHAMPION_TAG, "")),
        has_weights=WEIGHTS_TAG not in found.tags,
    )


@contextmanager
def fetch_opponent(opponent: Opponent) -> Iterator[tuple[Path, Path]]:
    """Provide the folders of model and tokenizer while they are needed.

    Args:
        opponent: The version.

    Yields:
        Folder of the model, and folder of the tokenizer.

    Raises:
        ModelSourceError: The files are missing or are not a model.
    """
    try:
        with scratch_folder() as scratch:
            yield fetch_registered(find_registered(opponent.address), scratch)
    except ModelSourceError as error:
        raise ModelSourceError(
            "the champion cannot be loaded, so the challenger cannot be compared with it",
            where=opponent.address,
            expected="the weights and the tokenizer of the registered version",
            got=next(iter((error.got or str(error)).strip().splitlines()), ""),
            fix=f"restore its files, or move the alias to a complete version: "
            f"sft-flow promote {opponent.name} VERSION, or sft-flow rollback {opponent.name}",
        ) from error


@dataclass(frozen=True)
class ChampionData:
    """Where to find the data profile of the champion."""

    version: int
    run_id: str


def find_champion_data(registry: RegistryConfig, kept_sha256: str) -> ChampionData | None:
    """Find the champion, unless there is none or it was trained on the same rows."""
    if not has_store():
        return None  # nothing is registered; importing MLflow would take seconds
    client = connect()
    with store_errors():
        settle_aliases(client, registry.name)
        version = alias_holder(client, registry.name, registry.alias)
        if version is None:
            return None
        found = client.get_model_version(registry.name, str(version))
    if found.tags.get(DATASET_TAG) == kept_sha256 or not found.run_id:
        return None
    return ChampionData(version, str(found.run_id))


def read_champion_profile(champion: ChampionData) -> DataProfile | None:
    """Read the profile of the champion's data; None for a version registered without one."""
    import mlflow

    client = connect()
    with store_errors():
        if not has_artifact(client, champion.run_id, PROFILE_ARTIFACT):
            LOGGER.warning(
                "drift is not checked: %s of version %d is missing in the MLflow store",
                PROFILE_ARTIFACT,
                champion.version,
            )
            return None
        text = mlflow.artifacts.load_text(f"runs:/{champion.run_id}/{PROFILE_ARTIFACT}")
    where = f"{PROFILE_ARTIFACT} of version {champion.version}, {without_secrets(tracking_uri())}"
    return parse_profile(text, where)
