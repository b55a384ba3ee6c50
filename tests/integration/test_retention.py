"""Retention against a real store, on files that only take room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.registry import RegistryConfig
from schemas.records.references import Approval
from tasks.registry.approvals import note_answer
from tasks.registry.lease import promotion_lease
from tasks.registry.store import connect, has_model_files
from tasks.registry.tags import WEIGHTS_TAG
from tasks.release import retention
from tasks.release.retention import Pruned, prune_unpromoted

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


def prune(client: Any, registry: RegistryConfig) -> Pruned:
    """Prune, and fail on what cannot be deleted."""

    def warn(text: str, *details: object) -> None:
        raise AssertionError(text % details)

    return prune_unpromoted(client, registry, warn)


def has_files(client: Any, *versions: tuple[int, str]) -> list[bool]:
    return [has_model_files(client, uri) for _, uri in versions]


def test_older_refused_versions_lose_their_weights_and_keep_the_rest(client: Any) -> None:
    versions = [add_version(client) for _ in range(3)]
    assert prune(client, KEEP_ONE) == Pruned(2 * N_BYTES, (2, 1))
    assert has_files(client, *versions) == [False, False, True]
    pruned = client.get_model_version("toy", "1")
    assert pruned.tags[WEIGHTS_TAG] == "deleted"
    assert pruned.tags["sft.decision"] == "refuse"
    assert prune(client, KEEP_ONE) == Pruned(0, ())


def test_adapters_go_with_the_weights(client: Any, tmp_path: Path) -> None:
    experiment = client.get_experiment_by_name("models").experiment_id
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x" * N_BYTES)
    runs = []
    for _ in range(2):
        number, uri = add_version(client)
        client.delete_model_version("toy", number)
        run_id = client.create_run(experiment).info.run_id
        client.log_artifact(run_id, str(tmp_path / "adapter_model.safetensors"), "adapter")
        client.log_text(run_id, "kept", "gates.json")
        tags = {"sft.fingerprint": uri, "sft.decision": "refuse", "sft.adapter": "runs:/x/adapter"}
        client.create_model_version("toy", uri, run_id=run_id, tags=tags)
        runs.append(run_id)
    assert prune(client, KEEP_ONE).freed_bytes == 2 * N_BYTES
    assert client.list_artifacts(runs[0], "adapter") == []
    assert [file.path for file in client.list_artifacts(runs[0]) if not file.is_dir] == [
        "gates.json"
    ]
    assert len(client.list_artifacts(runs[1], "adapter")) == 1


def test_adapter_whose_run_is_gone_frees_nothing(client: Any) -> None:
    number, uri = add_version(client)
    client.delete_model_version("toy", number)
    tags = {"sft.fingerprint": uri, "sft.decision": "refuse", "sft.adapter": "runs:/x/adapter"}
    gone = client.create_model_version("toy", uri, run_id="0" * 32, tags=tags)
    add_version(client)
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (int(gone.version),))


@pytest.mark.parametrize("alias", ["champion", "previous", "challenger", "of-my-own"])
def test_a_version_with_an_alias_keeps_its_weights(client: Any, alias: str) -> None:
    versions = [add_version(client) for _ in range(3)]
    client.set_registered_model_alias("toy", alias, "1")
    keep_none = KEEP_ONE.model_copy(update={"keep_rejected": 0})
    assert prune(client, keep_none).versions == (3, 2)
    assert has_files(client, *versions) == [True, False, False]


def test_only_what_we_refused_loses_its_weights(client: Any) -> None:
    versions = [add_version(client, decision) for decision in ("promote", None, "refuse")]
    client.set_model_version_tag("toy", "2", "sft.decision", "refuse")  # a person's own tag
    keep_none = KEEP_ONE.model_copy(update={"keep_rejected": 0})
    assert prune(client, keep_none).versions == (3,)
    assert has_files(client, *versions) == [True, True, False]


def test_a_version_of_the_same_files_protects_them(client: Any) -> None:
    first = add_version(client)
    add_version(client)
    client.create_registered_model("other")
    other = client.create_model_version("other", first[1])
    assert prune(client, KEEP_ONE) == Pruned(0, ())
    client.delete_model_version("other", other.version)
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (1,))


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
            prune(client, KEEP_ONE)
    assert client.get_model_version("toy", "1").tags[WEIGHTS_TAG] == "deleting"
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (1,))
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
    assert prune(client, KEEP_ONE) == Pruned(0, ())
    assert has_files(client, first) == [True]
    assert WEIGHTS_TAG not in client.get_model_version("toy", "1").tags


def test_logged_model_that_is_gone_counts_as_deleted(client: Any) -> None:
    versions = [add_version(client) for _ in range(3)]
    client.delete_logged_model(versions[0][1].rsplit("/", 1)[-1])
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (2, 1))
    assert client.get_model_version("toy", "1").tags[WEIGHTS_TAG] == "deleted"
    assert prune(client, KEEP_ONE) == Pruned(0, ())


def test_store_that_refuses_to_delete_one_version_does_not_fail_the_run(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [add_version(client) for _ in range(3)]
    delete = retention.delete_model_files
    denied = versions[1][1].rsplit("/", 1)[-1]

    def deny(client: Any, model_id: str) -> int:
        if model_id == denied:
            raise PermissionError("AccessDenied: DeleteObject")
        return delete(client, model_id)

    monkeypatch.setattr(retention, "delete_model_files", deny)
    warnings: list[str] = []
    pruned = prune_unpromoted(client, KEEP_ONE, lambda text, *rest: warnings.append(text % rest))
    assert pruned == Pruned(N_BYTES, (1,))
    assert len(warnings) == 1
    assert "toy version 2" in warnings[0]
    assert "DeleteObject" in warnings[0]


def test_copy_under_another_name_protects_the_files(client: Any) -> None:
    versions = [add_version(client) for _ in range(2)]
    copied = client.copy_model_version("models:/toy/1", "served")
    assert prune(client, KEEP_ONE) == Pruned(0, ())
    assert has_files(client, versions[0]) == [True]
    client.delete_model_version("served", copied.version)
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (1,))


def test_nothing_is_deleted_while_a_promotion_is_under_way(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [add_version(client) for _ in range(2)]
    monkeypatch.setattr(retention, "LEASE_WAIT_SECONDS", 0.2)
    warnings: list[str] = []
    with promotion_lease(client, "toy"):
        prune_unpromoted(client, KEEP_ONE, lambda text, *rest: warnings.append(text % rest))
    assert has_files(client, *versions) == [True, True]
    assert "being changed" in warnings[0]
    assert prune(client, KEEP_ONE) == Pruned(N_BYTES, (1,))


def test_declined_and_dry_run_versions_count_as_not_promoted(client: Any) -> None:
    versions = [add_version(client, "promote") for _ in range(4)]
    no = Approval(is_approved=False, reviewer="ada", reason="refused by ada")
    note_answer(client, "toy", 1, no, "")
    client.set_model_version_tag("toy", "2", "sft.decision_mode", "dry_run")
    client.set_model_version_tag("toy", "3", "sft.decision_mode", "dry_run")
    client.set_model_version_tag("toy", "3", "sft.promoted_at", "2026-01-01")  # by hand
    keep_none = KEEP_ONE.model_copy(update={"keep_rejected": 0})
    assert prune(client, keep_none).versions == (2, 1)
    assert has_files(client, *versions) == [False, False, True, True]
