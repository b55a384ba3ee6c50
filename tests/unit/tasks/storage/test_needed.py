from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.errors import ServiceUnreachable
from tasks.storage import needed
from tasks.storage.needed import needed_outputs
from tasks.storage.outputs import list_outputs
from tasks.storage.unfinished import list_trainings
from tests.support.outputs import store, store_version


@pytest.fixture
def holders(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """Versions with an alias; a test adds to it."""
    found: set[tuple[str, int]] = set()
    monkeypatch.setattr(
        needed,
        "versions_with_alias",
        lambda names: {one for one in found if one[0] in set(names)},
    )
    return found


def needed_folders(home: Path) -> set[str]:
    found = needed_outputs(list_outputs(), list_trainings())
    return {path.relative_to(home).as_posix() for path in found}


def test_everything_a_version_with_an_alias_was_made_of_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    chains = {}
    for number in (1, 2):
        rows = store("load_dataset", seed=number)
        model = store("train_model", rows=rows, seed=number)
        scores = store("held_out_scores", model_sha256=model.sha256)
        version = store_version("faq", number, trained=model)
        moved = store("promote_model", version=version)
        chains[number] = {one.folder for one in (rows, model, scores, version, moved)}
    assert needed_folders(work_folder) == set()
    holders.add(("faq", 2))
    assert needed_folders(work_folder) == chains[2]
    holders.add(("other", 1))
    assert needed_folders(work_folder) == chains[2]
    holders.add(("faq", 1))
    assert needed_folders(work_folder) == chains[1] | chains[2]


def test_what_an_unfinished_training_reads_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    rows = store("load_dataset")
    tokens = store("check_quality", rows=rows)
    store("decide", seed=3)
    spec = work_folder / "checkpoints" / "abc" / "spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"fingerprint": {"input quality": tokens.sha256}}))
    assert needed_folders(work_folder) == {rows.folder, tokens.folder}
    spec.write_text("{", encoding="utf-8")
    assert needed_folders(work_folder) == set()


def test_everything_of_a_version_in_another_store_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    rows = store("load_dataset")
    foreign = store_version("faq", 1, uri="http://other:5000", rows=rows)
    moved = store("promote_model", version=foreign)
    store_version("faq", 2)
    assert needed_folders(work_folder) == {one.folder for one in (rows, foreign, moved)}
    # Number 1 of this store is another version.
    holders.add(("faq", 1))
    assert needed_folders(work_folder) == {one.folder for one in (rows, foreign, moved)}


def test_without_a_store_no_version_has_an_alias(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store_version("faq", 1)
    assert needed_folders(work_folder) == set()
    assert not (work_folder / "mlflow.db").exists()


def test_a_registry_that_does_not_answer_is_an_error(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_version("faq", 1)
    monkeypatch.setattr(needed, "has_store", lambda: True)

    def connect() -> None:
        raise ServiceUnreachable("the registry does not answer", fix="start it")

    monkeypatch.setattr(needed, "connect", connect)
    with pytest.raises(ServiceUnreachable):
        needed_outputs(list_outputs(), ())
