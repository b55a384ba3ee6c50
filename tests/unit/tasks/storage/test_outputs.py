from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from schemas.records.references import StageReference
from tasks.engine.cache import MANIFEST, look_up
from tasks.engine.keys import StageDefinition
from tasks.storage.outputs import folder_bytes, list_outputs, read_output
from tests.support.outputs import MODULE, key_of, store


def test_outputs_are_listed_by_their_last_use(work_folder: Path) -> None:
    for number, days in enumerate((1, 3, 2)):
        store("decide", days=days, seed=number, n_bytes=100)
    rejected = work_folder / "rejected" / "check_schema" / "abc"
    rejected.mkdir(parents=True)
    (rejected / "quarantine.jsonl").write_bytes(b"12345")
    os.utime(rejected, (1.0, 1.0))
    found = list_outputs()
    assert [one.key.get("config seed") for one in found] == [None, "1", "2", "0"]
    assert (found[0].folder, found[0].n_bytes) == ("rejected/check_schema/abc", 5)
    assert {one.stage for one in found[1:]} == {"decide"}
    assert all(one.n_bytes > 100 for one in found[1:])


def test_an_output_knows_what_it_was_made_of(work_folder: Path) -> None:
    rows = store("load_dataset")
    made = store("check_schema", rows=rows)
    found = {one.stage: one for one in list_outputs()}
    assert found["check_schema"].inputs == {rows.sha256}
    assert found["check_schema"].sha256 == made.sha256
    assert found["check_schema"].result["folder"] == made.folder


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": {}, "result": {}}', None])
def test_an_output_with_a_damaged_manifest_is_listed(work_folder: Path, text: str | None) -> None:
    path = work_folder / store("decide").folder
    (path / MANIFEST).unlink()
    if text is not None:
        (path / MANIFEST).write_text(text, encoding="utf-8")
    (found,) = list_outputs()
    assert (found.path, found.sha256, found.inputs) == (path, "", set())


def test_incomplete_outputs_are_not_listed(work_folder: Path) -> None:
    (work_folder / "stages" / "decide" / ".tmp-abc-1").mkdir(parents=True)
    (work_folder / "stages" / "decide" / "abc.lock").touch()
    assert list_outputs() == []


def test_what_is_gone_has_no_size(work_folder: Path) -> None:
    assert read_output(work_folder / "stages" / "decide" / "gone") is None
    assert folder_bytes(work_folder / "gone") == 0


def test_looking_an_output_up_is_a_use(work_folder: Path) -> None:
    store("decide", days=9, seed=1)
    before = time.time() - 5
    (old,) = list_outputs()
    assert old.used_at < before
    definition = StageDefinition("decide", MODULE, StageReference)
    assert look_up(definition, key_of("decide", seed=1)).reference
    (used,) = list_outputs()
    assert used.used_at > before
