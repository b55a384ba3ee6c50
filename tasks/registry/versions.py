"""Models of the MLflow registry: the version of an address, and its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from schemas.errors import ModelSourceError
from tasks.registry._faults import store_fault
from tasks.registry.aliases import settle_aliases
from tasks.registry.store import alias_holder, connect, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REGISTRY_SCHEME = "models:/"
PAGE_VERSIONS = 100
_ADDRESS = re.compile(r"^models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))$")


@dataclass(frozen=True)
class RegisteredModel:
    """One version in the registry."""

    name: str
    version: int
    run_id: str
    artifacts: str
    """Address of its artefacts."""

    @property
    def address(self) -> str:
        """Return the address of the version, which stays the same when an alias moves."""
        return f"{REGISTRY_SCHEME}{self.name}/{self.version}"

    @property
    def fingerprint(self) -> str:
        """Identify the content of the version, which the registry never changes."""
        return f"{self.name} version {self.version} run {self.run_id}"


def find_registered(address: str) -> RegisteredModel:
    """Find a version in the store of `MLFLOW_TRACKING_URI`.

    Args:
        address: `models:/name@alias` or `models:/name/version`.

    Returns:
        The version.

    Raises:
        ModelSourceError: The address is malformed, or there is no such version or alias.
    """
    parts = _ADDRESS.match(address)
    if not parts:
        raise _unknown(address, "something else")
    client = connect()
    from mlflow.exceptions import MlflowException

    name, alias = parts["name"], parts["alias"]
    with store_errors():
        try:
            number = parts["version"] or client.get_model_version_by_alias(name, alias).version
            version = client.get_model_version(name, str(number))
            artifacts = client.get_model_version_download_uri(name, str(number))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise _unknown(address, str(error)) from error
    return RegisteredModel(name, int(number), str(version.run_id), str(artifacts))


def find_champion(address: str) -> RegisteredModel | None:
    """Find the version of `models:/name@alias`; None if the model or the alias does not exist yet."""
    name, _, alias = address.removeprefix(REGISTRY_SCHEME).rpartition("@")
    client = connect()
    with store_errors():
        settle_aliases(client, name)
        version = alias_holder(client, name, alias)
    return None if version is None else find_registered(f"{REGISTRY_SCHEME}{name}/{version}")


def fetch_registered(model: RegisteredModel, scratch: Path) -> tuple[Path, Path]:
    """Find the files of a version on this disk, or download them.

    Args:
        model: The version.
        scratch: Folder for a download; artefacts on this disk are read in place.

    Returns:
        Folders of the model and of the tokenizer, as written by `mlflow.transformers`.
    """
    import mlflow
    import requests
    from mlflow.exceptions import MlflowException

    address = model.address
    is_local = urlsplit(model.artifacts).scheme in ("", "file")
    with store_errors():
        try:
            found = mlflow.artifacts.download_artifacts(
                address, dst_path=None if is_local else str(scratch)
            )
        except (MlflowException, OSError) as error:
            is_answer = isinstance(error, (MlflowException, requests.RequestException))
            if is_answer and store_fault(error):
                raise
            raise _incomplete(address, str(error)) from error
    folder = Path(found)
    if not (folder / "model" / "config.json").is_file():
        raise _incomplete(address, "no model/config.json")
    tokenizer = folder / "components" / "tokenizer"
    return folder / "model", tokenizer if tokenizer.is_dir() else folder / "model"


def _incomplete(address: str, got: str) -> ModelSourceError:
    return ModelSourceError(
        "the registered version has no transformers model",
        where=f"model.source={address}",
        expected="a version logged with mlflow.transformers, weights included",
        got=got,
        fix="set another version, or a model folder",
    )


def _unknown(address: str, got: str) -> ModelSourceError:
    return ModelSourceError(
        "the registry has no such model",
        where=f"model.source={address}",
        expected="models:/name@alias or models:/name/version of a registered model",
        got=got,
        fix="correct model.source, or MLFLOW_TRACKING_URI if the model is in another store",
    )


def search_versions(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    """Yield all versions of a name, the newest first, also those of other machines on the same store."""
    token: str | None = None
    while True:
        page = client.search_model_versions(
            f"name = '{name}'",
            max_results=PAGE_VERSIONS,
            order_by=["version_number DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
