"""The champion's data profile, which the next set is held against."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.profile import DataProfile, parse_profile
from schemas.registry_config import RegistryConfig
from tasks._registry import alias_holder, connect, store_errors
from tasks.engine.home import has_store, tracking_uri
from tasks.engine.redaction import without_secrets

PROFILE_ARTIFACT = "data/profile.json"
DATASET_TAG = "sft.dataset_sha256"


@dataclass(frozen=True)
class ChampionData:
    """What is known of the data the champion was trained on."""

    version: int
    run_id: str


def find_champion_data(registry: RegistryConfig, kept_sha256: str) -> ChampionData | None:
    """Find the champion, unless it was trained on the same rows.

    Args:
        registry: Name and alias.
        kept_sha256: Of the rows at hand.

    Returns:
        Its version and run; None when there is no champion or nothing could have drifted.
    """
    if not has_store():
        return None  # nothing is registered: no need to import MLflow, which takes seconds
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
    """Read the profile of the champion's data.

    Args:
        champion: What `find_champion_data` found.

    Returns:
        The profile; None for a version that was registered without one.
    """
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
