from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ServiceUnreachable
from schemas.records.references import QualityReference
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


def store_quality(eval_sha256: str, **given: Any) -> Any:
    """Write an output of `check_quality` with such held-out rows."""
    facts = {"verdict": "passed", "n_train_rows": 1, "n_eval_rows": 1, "n_validation_rows": 0}
    facts |= {"n_train_tokens": 1, "n_supervised_tokens": 1, "eval_sha256": eval_sha256}
    facts |= {"rules": ()}
    return store("check_quality", kind=QualityReference, facts=facts, **given)


def needed_folders(home: Path) -> set[str]:
    found = needed_outputs(list_outputs(), list_trainings())
    return {path.relative_to(home).as_posix() for path in found}


def test_everything_a_version_with_an_alias_was_made_of_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    chains = {}
    for number in (1, 2):
        rows = store("load_dataset", seed=number)
        sha256 = f"{number}" * 64
        quality = store_quality(sha256, rows=rows, seed=number)
        model = store("train_model", quality=quality, seed=number)
        scores = store("held_out_scores", model_sha256=model.sha256, eval_sha256=sha256)
        store("held_out_scores", model_sha256=model.sha256, eval_sha256="other rows")
        version = store_version("faq", number, trained=model)
        moved = store("promote_model", version=version)
        chains[number] = {one.folder for one in (rows, quality, model, scores, version, moved)}
    assert needed_folders(work_folder) == set()
    holders.add(("faq", 2))
    assert needed_folders(work_folder) == chains[2]
    holders.add(("other", 1))
    assert needed_folders(work_folder) == chains[2]
    holders.add(("faq", 1))
    assert needed_folders(work_folder) == chains[1] | chains[2]


def test_of_equal_content_that_of_the_same_rows_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    base = store("prepare_template")
    chains = []
    for number in range(4):
        rows = store("load_dataset", seed=number)
        quality = store_quality("0" * 64, rows=rows, seed=number)
        # The answers of the base model are the same every time.
        baseline = store("generate_baseline", quality=quality, template=base, days=number)
        model = store("train_model", quality=quality, template=base, seed=number)
        chains.append((rows, quality, baseline, model, base))
    *_, baseline, model, _ = chains[2]
    version = store_version("faq", 1, baseline=baseline, trained=model)
    assert len({chain[2].sha256 for chain in chains}) == 1
    holders.add(("faq", 1))
    assert needed_folders(work_folder) == {one.folder for one in (*chains[2], version)}


def test_of_equal_content_of_which_nothing_else_is_known_the_last_used_is_needed(
    work_folder: Path, holders: set[tuple[str, int]]
) -> None:
    old, new = (
        store("generate_baseline", rows=store("load_dataset", seed=days), days=days)
        for days in (3, 1)
    )
    assert old.sha256 == new.sha256
    version = store_version("faq", 1, baseline=old)
    holders.add(("faq", 1))
    assert {version.folder, new.folder} < needed_folders(work_folder)
    assert old.folder not in needed_folders(work_folder)
    assert len(needed_folders(work_folder)) == 3


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
