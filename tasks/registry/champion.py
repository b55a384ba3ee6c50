"""The registered version a challenger has to beat, and its files."""

from __future__ import annotations

import tempfile
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
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import DATASET_TAG, MODEL_TAG
from tasks.registry.versions import fetch_registered, find_registered

if TYPE_CHECKING:
    from mlflow import MlflowClient


PROFILE_ARTIFACT = "data/profile.json"


@dataclass(frozen=True)
class Opponent:
    """A registered version to beat."""

    name: str
    version: int
    run_id: str
    alias: str
    """By which the version was found."""
    model_sha256: str
    """From its tag; empty for a version without it."""

    @property
    def address(self) -> str:
        """Return the address of the version."""
        return f"models:/{self.name}/{self.version}"

    @property
    def fingerprint(self) -> str:
        """Identify the version and its content."""
        return f"version {self.version} {self.model_sha256 or f'run {self.run_id}'}"


def find_opponent(registry: RegistryConfig, own_sha256: str) -> Opponent | None:
    """Find the champion, or the previous one if the champion is the challenger itself; None without one.

    A run that is repeated after its promotion finds its own model as champion. It is compared with
    the same opponent as the first time, so that nothing changes.
    """
    client = connect()
    with store_errors():
        for alias in (registry.alias, registry.previous_alias):
            found = _holder(client, registry.name, alias)
            if found is None or found.model_sha256 != own_sha256:
                return found
    return None


def _holder(client: MlflowClient, name: str, alias: str) -> Opponent | None:
    version = alias_holder(client, name, alias)
    if version is None:
        return None
    found = client.get_model_version(name, str(version))
    tag = str(found.tags.get(MODEL_TAG, ""))
    return Opponent(name, version, str(found.run_id), alias, tag)


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
        with tempfile.TemporaryDirectory() as scratch:
            yield fetch_registered(find_registered(opponent.address), Path(scratch))
    except ModelSourceError as error:
        raise ModelSourceError(
            "the champion cannot be loaded, so the challenger cannot be compared with it",
            where=f"{opponent.address}, alias {opponent.alias}",
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
        folder = PROFILE_ARTIFACT.split("/")[0]
        names = {file.path for file in client.list_artifacts(champion.run_id, folder)}
        if PROFILE_ARTIFACT not in names:
            return None
        text = mlflow.artifacts.load_text(f"runs:/{champion.run_id}/{PROFILE_ARTIFACT}")
    where = f"{PROFILE_ARTIFACT} of version {champion.version}, {without_secrets(tracking_uri())}"
    return parse_profile(text, where)
