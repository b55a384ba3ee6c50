"""The registered version a challenger has to beat, and its files."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ModelSourceError
from schemas.registry_config import RegistryConfig
from tasks._model_files import folder_sha256
from tasks._registered_models import fetch_registered, find_registered
from tasks._registry import alias_holder, connect, store_errors
from tasks._scores_cache import JudgedModel

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_TAG = "sft.model_sha256"
"""Tag of a version: sha256 of the model, as the run that registered it knew it."""


@dataclass(frozen=True)
class Opponent:
    """A registered version to be beaten."""

    name: str
    version: int
    run_id: str
    alias: str
    """By which it was found."""
    model_sha256: str
    """As its tag says; empty for a version that was registered without."""

    @property
    def address(self) -> str:
        """Name the version."""
        return f"models:/{self.name}/{self.version}"

    @property
    def fingerprint(self) -> str:
        """Name the version and its content."""
        return f"version {self.version} {self.model_sha256 or f'run {self.run_id}'}"


def find_opponent(registry: RegistryConfig, own_sha256: str) -> Opponent | None:
    """Find the champion, or the one before where the champion is the challenger itself.

    A run that is repeated after its model was promoted finds its own model in the champion's
    place. It is compared with the same opponent as the first time, so that nothing changes.

    Args:
        registry: Name and aliases.
        own_sha256: Of the challenger.

    Returns:
        The version; None when there is none but the challenger itself.
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


def opponent_model(opponent: Opponent) -> JudgedModel:
    """Describe the opponent as a model to judge.

    Args:
        opponent: The version.

    Returns:
        The model; one registered without the tag is downloaded to hash its files.
    """
    sha256 = opponent.model_sha256
    if not sha256:
        with fetch_opponent(opponent) as folders:
            parts = " ".join(folder_sha256(folder) for folder in folders)
        sha256 = hashlib.sha256(parts.encode()).hexdigest()
    return JudgedModel(sha256, lambda: fetch_opponent(opponent))


@contextmanager
def fetch_opponent(opponent: Opponent) -> Iterator[tuple[Path, Path]]:
    """Bring the opponent's files to this disk as long as they are needed.

    Args:
        opponent: The version.

    Yields:
        Folders of model and tokenizer.

    Raises:
        ModelSourceError: The files are not there, or no model can be made of them.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            yield fetch_registered(find_registered(opponent.address), Path(scratch))
    except ModelSourceError as error:
        raise _unusable(opponent, error.got or str(error)) from error


def _unusable(opponent: Opponent, got: str) -> ModelSourceError:
    return ModelSourceError(
        "the champion cannot be loaded, so the challenger cannot be compared with it",
        where=f"{opponent.address}, alias {opponent.alias}",
        expected="the weights and the tokenizer of the registered version",
        got=got.strip().splitlines()[0] if got.strip() else "",
        fix=f"restore its files, or point the alias to a whole version: "
        f"sft-flow promote {opponent.name} VERSION, or sft-flow rollback {opponent.name}",
    )
