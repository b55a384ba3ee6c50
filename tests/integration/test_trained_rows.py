"""Digests of trained rows, kept with a version in a real store, and found among the held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.records.references import SplitReference, TemplateReference
from tasks.dataset.split_rows import Split
from tasks.dataset.trained_rows import (
    TrainedRows,
    collect_trained_rows,
    find_seen_rows,
    read_trained_rows,
    write_trained_rows,
)
from tasks.registry.store import connect
from tasks.rows.feature_table import FeatureTable
from tests.support.evaluations import template_reference
from tests.support.toy import write_jsonl

pytestmark = pytest.mark.integration


@pytest.fixture
def client(mlflow_home: Path, tmp_path: Path) -> Any:
    client = connect()
    client.create_experiment("models", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_registered_model("toy")
    return client


def add_version(client: Any, folder: Path, rows: TrainedRows | None) -> str:
    """Register a version with these digests, or as an earlier release did, and return its address."""
    experiment = client.get_experiment_by_name("models").experiment_id
    run_id = client.create_run(experiment).info.run_id
    if rows:
        client.log_artifact(run_id, str(write_trained_rows(rows, folder)), "data")
    version = client.create_model_version("toy", "s3://bucket/model", run_id=run_id)
    return f"models:/toy/{version.version}"


def digests(*values: int) -> Any:
    return numpy.array(values, dtype=numpy.uint64)


def write_split(home: Path, parts: list[Split], prompts: Any) -> SplitReference:
    table = FeatureTable(home / "stages" / "split_dataset" / "k" / "row_features")
    table.append("part", numpy.array(parts))
    table.append("prompt", prompts)
    table.save()
    return SplitReference(
        stage="split_dataset", folder="stages/split_dataset/k", sha256="s", n_train_rows=1,
        n_eval_rows=1, n_unused_rows=0, train_sha256="", eval_sha256="",
    )  # fmt: skip


def write_prompts(folder: Path, rows: list[tuple[int, int]]) -> Path:
    """Write group and digest of each row."""
    lines: list[dict[str, object]] = [
        {"row": row, "group": group, "digest": f"{digest:016x}"}
        for row, (group, digest) in enumerate(rows)
    ]
    write_jsonl(folder / "prompts.jsonl", lines)
    return folder / "prompts.jsonl"


def continued(address: str) -> TemplateReference:
    return template_reference().model_copy(update={"model_name": address})


def test_training_and_validation_rows_are_kept_with_those_of_the_start(
    client: Any, mlflow_home: Path, tmp_path: Path
) -> None:
    parts = [Split.TRAIN, Split.EVAL, Split.VALIDATION, Split.UNUSED, Split.TRAIN]
    big = 2**63 + 5
    split = write_split(mlflow_home, parts, digests(big, 1, 7, 2, 7))
    own = collect_trained_rows(split, template_reference())
    assert (own.prompts.tolist(), own.is_complete) == ([7, big], True)
    start = add_version(client, tmp_path, TrainedRows(digests(3, 7)))
    both = collect_trained_rows(split, continued(start))
    assert (both.prompts.tolist(), both.is_complete) == ([3, 7, big], True)
    stored = read_trained_rows(add_version(client, tmp_path, both))
    assert stored is not None
    assert stored.prompts.tolist() == both.prompts.tolist()


def test_what_an_earlier_release_did_not_store_is_not_known(
    client: Any, mlflow_home: Path, tmp_path: Path
) -> None:
    split = write_split(mlflow_home, [Split.TRAIN, Split.EVAL], digests(5, 1))
    old = add_version(client, tmp_path, None)
    assert read_trained_rows(old) is None
    own = collect_trained_rows(split, continued(old))
    assert (own.prompts.tolist(), own.is_complete) == ([5], False)
    # A version that continues from this one does not know more.
    later = collect_trained_rows(split, continued(add_version(client, tmp_path, own)))
    assert not later.is_complete
    prompts = write_prompts(tmp_path, [(0, 1)])
    assert find_seen_rows(prompts, later, old).unknown == (
        "the version that the challenger continued from",
        f"champion {old}",
    )


def test_a_run_that_was_removed_for_good_is_not_known(client: Any, tmp_path: Path) -> None:
    address = add_version(client, tmp_path, TrainedRows(digests(1)))
    run_id = client.get_model_version("toy", "1").run_id
    client.delete_run(run_id)
    client._tracking_client.store._hard_delete_run(run_id)
    assert read_trained_rows(address) is None


def test_rows_are_found_by_an_alias(client: Any, mlflow_home: Path, tmp_path: Path) -> None:
    add_version(client, tmp_path, TrainedRows(digests(3)))
    client.set_registered_model_alias("toy", "champion", "1")
    split = write_split(mlflow_home, [Split.TRAIN], digests(5))
    found = collect_trained_rows(split, continued("models:/toy@champion"))
    assert (found.prompts.tolist(), found.is_complete) == ([3, 5], True)
    assert read_trained_rows("models:/toy@nobody") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no array"])
def test_digests_that_cannot_be_read_are_not_known(
    client: Any, tmp_path: Path, content: bytes
) -> None:
    address = add_version(client, tmp_path, None)
    (tmp_path / "trained_rows.npz").write_bytes(content)
    client.log_artifact(
        client.get_model_version("toy", "1").run_id, str(tmp_path / "trained_rows.npz"), "data"
    )
    assert read_trained_rows(address) is None


def test_rows_that_a_model_has_seen_are_found_with_their_group(client: Any, tmp_path: Path) -> None:
    champion = add_version(client, tmp_path, TrainedRows(digests(10, 11)))
    prompts = write_prompts(tmp_path, [(0, 10), (0, 99), (1, 20), (2, 11), (3, 30)])
    found = find_seen_rows(prompts, TrainedRows(digests(20)), champion)
    assert found.champion == (0, 1, 3)
    assert found.challenger == (2,)
    assert found.unknown == ()
    assert find_seen_rows(prompts, TrainedRows(digests(20)), None).champion == ()
