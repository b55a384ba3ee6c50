"""Retention against a real store, on files that only take room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.registry import RegistryConfig
from tasks.registry.store import connect, has_model_files
from tasks.registry.tags import WEIGHTS_TAG
from tasks.release import retention
from tasks.release.retention import Pruned, prune_refused

N_BYTES = 1000
KEEP_ONE = RegistryConfig(name="toy", keep_rejected=1)


@pytest.fixture
def client(mlflow_home: Path, tmp_path: Path) -> Any:
    client = connect()
    client.create_experiment("models", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_registered_model("toy")
    return client


def add_version(client: Any, decision: str | None = "refuse") -> tuple[int, str]:
    """Register a logged model of two files."""
    import mlflow

    folder = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///")).parent / "model"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_bytes(b"x" * 10)
    (folder / "model/weights").write_bytes(b"x" * (N_BYTES - 10))
    experiment = client.get_experiment_by_name("models").experiment_id
    model = client.create_logged_model(experiment)
    client.log_model_artifacts(model.model_id, str(folder))
    tags = {"sft.fingerprint": model.model_id, "sft.decision": decision} if decision else {}
    uri = f"models:/{model.model_id}"
    version = client.create_model_version("toy", uri, tags=tags, model_id=model.model_id)
    return int(version.version), uri


def has_files(client: Any, *versions: tuple[int, str]) -> list[bool]:
    return [has_model_files(client, uri) for _, uri in versions]


def test_older_refused_versions_lose_their_weights_and_keep_the_rest(client: Any) -> None:
    versions = [add_version(client) for _ in range(3)]
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(2 * N_BYTES, (2, 1))
    assert has_files(client, *versions) == [False, False, True]
    pruned = client.get_model_version("toy", "1")
    assert pruned.tags[WEIGHTS_TAG] == "deleted"
    assert pruned.tags["sft.decision"] == "refuse"
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(0, ())


@pytest.mark.parametrize("alias", ["champion", "previous", "challenger", "of-my-own"])
def test_a_version_with_an_alias_keeps_its_weights(client: Any, alias: str) -> None:
    versions = [add_version(client) for _ in range(3)]
    client.set_registered_model_alias("toy", alias, "1")
    keep_none = KEEP_ONE.model_copy(update={"keep_rejected": 0})
    assert prune_refused(client, keep_none, "toy").versions == (3, 2)
    assert has_files(client, *versions) == [True, False, False]


def test_only_what_we_refused_loses_its_weights(client: Any) -> None:
    versions = [add_version(client, decision) for decision in ("promote", None, "refuse")]
    client.set_model_version_tag("toy", "2", "sft.decision", "refuse")  # a person's own tag
    keep_none = KEEP_ONE.model_copy(update={"keep_rejected": 0})
    assert prune_refused(client, keep_none, "toy").versions == (3,)
    assert has_files(client, *versions) == [True, True, False]


def test_a_version_of_the_same_files_protects_them(client: Any) -> None:
    first = add_version(client)
    add_version(client)
    client.create_registered_model("other")
    other = client.create_model_version("other", first[1])
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(0, ())
    client.delete_model_version("other", other.version)
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(N_BYTES, (1,))


def test_a_sweep_that_was_killed_is_finished_by_the_next(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_version(client)
    add_version(client)

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "delete_model_files", die)
        with pytest.raises(KeyboardInterrupt):
            prune_refused(client, KEEP_ONE, "toy")
    assert client.get_model_version("toy", "1").tags[WEIGHTS_TAG] == "deleting"
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(N_BYTES, (1,))
    assert has_files(client, first) == [False]


def test_an_alias_given_while_the_sweep_is_at_it_saves_the_weights(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_version(client)
    add_version(client)
    set_tag = client.set_model_version_tag

    def promote_first(*args: str) -> None:
        client.set_registered_model_alias("toy", "champion", "1")
        set_tag(*args)

    monkeypatch.setattr(client, "set_model_version_tag", promote_first)
    assert prune_refused(client, KEEP_ONE, "toy") == Pruned(0, ())
    assert has_files(client, first) == [True]
    assert WEIGHTS_TAG not in client.get_model_version("toy", "1").tags
