from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from schemas.config.run import SplitConfig
from schemas.records.references import StageReference
from tasks.engine.cache import (
    MANIFEST,
    Lookup,
    OutputFolder,
    discarding,
    generation,
    locate,
    look_up,
    stage_lock,
)
from tasks.engine.keys import StageDefinition, StageKey, file_sha256, stage_key

DEFINITION = StageDefinition("split_dataset", "schemas.records.stages", StageReference)
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
CONFIG = SplitConfig()


def reference(sha256: str, folder: str = "stages/check_schema/a") -> StageReference:
    return StageReference(stage="check_schema", folder=folder, sha256=sha256)


def key_of(**arguments: object) -> StageKey:
    return stage_key(DEFINITION, {"config": CONFIG, "seed": 1, **arguments})


def store(key: StageKey, text: str = "one\n", note: str = "") -> StageReference:
    output = OutputFolder(key)
    (output.path / "train.jsonl").write_text(text, encoding="utf-8")
    (output.path / "model").mkdir()
    (output.path / "model" / "weights.bin").write_bytes(b"\x00\x01")
    (output.path / "timing.txt").write_text(note, encoding="utf-8")
    return output.commit(StageReference, content=("train.jsonl", "model"))


def look(key: StageKey) -> Lookup:
    return look_up(DEFINITION, key)


def test_file_sha256_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert file_sha256(tmp_path / "a") == EMPTY_SHA256


def test_key_names_every_part() -> None:
    parts = key_of(dataset=reference("f" * 64)).parts
    assert parts["stage"] == "split_dataset"
    assert parts["input dataset"] == "f" * 64
    assert parts["config config.eval_fraction"] == "0.1"
    assert parts["config seed"] == "1"
    assert len(parts["code"]) == 64


def test_key_counts_records_by_content_and_not_by_place() -> None:
    here = key_of(dataset=reference("f" * 64, "stages/check_schema/a"))
    there = key_of(dataset=reference("f" * 64, "stages/check_schema/b"))
    other = key_of(dataset=reference("e" * 64))
    assert here.digest == there.digest != other.digest


def test_key_reaches_records_within_records_and_dicts() -> None:
    parts = key_of(both={"a": reference("a" * 64), "b": {}}).parts
    assert parts["input both.a"] == "a" * 64
    assert parts["config both.b"] == "{}"


def test_key_counts_libraries_assets_and_source_content(tmp_path: Path) -> None:
    asset = tmp_path / "chat.jinja"
    asset.touch()
    definition = StageDefinition(
        "split_dataset",
        "schemas.records.stages",
        StageReference,
        libraries=("pydantic",),
        assets=(asset,),
        fingerprint=lambda arguments: f"seen {arguments['seed']}",
    )
    parts = stage_key(definition, {"seed": 3}).parts
    assert parts["library pydantic"].startswith("2.")
    assert parts["file chat.jinja"] == EMPTY_SHA256
    assert parts["source content"] == "seen 3"


def test_first_look_up_is_a_miss() -> None:
    found = look(key_of())
    assert (found.reference, found.reason) == (None, "first run of this stage")


def test_commit_then_hit() -> None:
    written = store(key_of())
    found = look(key_of())
    assert found.reference == written
    assert (found.reason, found.n_files) == ("unchanged", 3)
    assert locate(written, "train.jsonl").read_text(encoding="utf-8") == "one\n"


def test_record_and_manifest_are_what_they_say() -> None:
    key = key_of()
    written = store(key)
    covered = {
        name: file_sha256(locate(written, name)) for name in ("model/weights.bin", "train.jsonl")
    }
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    assert written == StageReference(stage="split_dataset", folder=key.folder, sha256=digest)
    manifest = json.loads(locate(written, MANIFEST).read_text(encoding="utf-8"))
    assert manifest["key"] == key.parts
    assert manifest["files"] == covered | {"timing.txt": EMPTY_SHA256}


def test_content_is_all_files_where_none_is_named() -> None:
    output = OutputFolder(key_of())
    (output.path / "ä.txt").write_text("", encoding="utf-8")
    written = output.commit(StageReference)
    covered = json.dumps({"ä.txt": EMPTY_SHA256})
    assert written.sha256 == hashlib.sha256(covered.encode()).hexdigest()


def test_look_up_marks_the_output_as_used_now() -> None:
    folder = locate(store(key_of()), "")
    os.utime(folder, (1.0, 1.0))
    look(key_of())
    assert folder.stat().st_mtime > 10**9


def test_equal_content_gives_equal_sha256_whatever_the_rest() -> None:
    first = store(key_of(seed=1), note="took 3 s")
    second = store(key_of(seed=2), note="took 4 s")
    third = store(key_of(seed=3), text="two\n")
    assert first.sha256 == second.sha256 != third.sha256


def test_sha256_covers_folders_named_as_content() -> None:
    first = store(key_of(seed=1))
    output = OutputFolder(key_of(seed=2))
    (output.path / "train.jsonl").write_text("one\n", encoding="utf-8")
    (output.path / "model").mkdir()
    (output.path / "model" / "weights.bin").write_bytes(b"\x00\x02")
    second = output.commit(StageReference, content=("train.jsonl", "model"))
    assert first.sha256 != second.sha256


def test_changed_configuration_is_named_with_both_values() -> None:
    store(key_of())
    found = look(key_of(config=SplitConfig(eval_fraction=0.2), seed=5))
    assert found.reference is None
    assert found.reason == "changed: config config.eval_fraction 0.1 → 0.2; config seed 1 → 5"


def test_changed_input_is_named_by_short_digests() -> None:
    store(key_of(dataset=reference("f" * 64)))
    reason = look(key_of(dataset=reference("e" * 64))).reason
    assert reason == "changed: input dataset ffffffff → eeeeeeee"


def test_changed_code_is_named() -> None:
    store(key_of())
    other = StageDefinition("split_dataset", "schemas.errors", StageReference)
    reason = look_up(other, stage_key(other, {"config": CONFIG, "seed": 1})).reason
    assert reason.startswith("changed: code ")


def test_new_and_gone_parts_are_named() -> None:
    store(key_of())
    assert look(key_of(extra=1)).reason == "changed: config extra (none) → 1"


def test_deleted_file_is_a_miss() -> None:
    locate(store(key_of()), "model/weights.bin").unlink()
    assert look(key_of()).reason == "output model/weights.bin was deleted"


def test_damaged_file_is_a_miss() -> None:
    path = locate(store(key_of()), "train.jsonl")
    path.write_text("onE\n", encoding="utf-8")
    assert look(key_of()).reason == "output train.jsonl was damaged"


def test_deleted_folder_is_a_miss() -> None:
    folder = locate(store(key_of()), "")
    with discarding(folder):
        assert not folder.exists()
    assert look(key_of()).reason == "its output was deleted"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {}, "result": {"stage": 1}}'])
def test_damaged_manifest_is_a_miss(text: str) -> None:
    locate(store(key_of()), MANIFEST).write_text(text, encoding="utf-8")
    assert look(key_of()).reason.startswith("its manifest is missing or damaged")


def test_verify_can_refuse_a_hit() -> None:
    store(key_of())
    definition = StageDefinition(
        "split_dataset",
        "schemas.records.stages",
        StageReference,
        verify=lambda _: "version 3 is gone",
    )
    found = look_up(definition, key_of())
    assert (found.reference, found.reason) == (None, "version 3 is gone")


def test_commit_replaces_an_older_output_and_leaves_no_other_file(work_folder: Path) -> None:
    store(key_of(), text="old\n")
    written = store(key_of(), text="new\n")
    assert locate(written, "train.jsonl").read_text(encoding="utf-8") == "new\n"
    folder = work_folder / "stages" / "split_dataset"
    assert sorted(path.name for path in folder.iterdir()) == [key_of().digest, "last_key.json"]


def test_abandon_leaves_nothing(work_folder: Path) -> None:
    output = OutputFolder(key_of())
    (output.path / "half").touch()
    output.abandon()
    assert list((work_folder / "stages" / "split_dataset").iterdir()) == []


def test_manifest_is_inside_and_lists_every_file() -> None:
    written = store(key_of())
    manifest = json.loads(locate(written, MANIFEST).read_text(encoding="utf-8"))
    assert sorted(manifest["files"]) == ["model/weights.bin", "timing.txt", "train.jsonl"]
    assert manifest["result"] == written.model_dump(mode="json")


def test_generation_is_0_before_the_first_and_where_it_cannot_be_read(work_folder: Path) -> None:
    assert generation(key_of(), is_renewed=False) == 0
    path = work_folder / f"{key_of().folder}.generation"
    assert not path.exists()
    assert 0 < generation(key_of(), is_renewed=True) < 2**64
    path.write_text("half", encoding="utf-8")
    assert generation(key_of(), is_renewed=False) == 0


def test_generation_changes_whenever_the_output_is_renewed() -> None:
    first = generation(key_of(), is_renewed=True)
    assert generation(key_of(), is_renewed=False) == first
    second = generation(key_of(), is_renewed=True)
    assert second != first
    assert generation(key_of(), is_renewed=False) == second


def test_the_work_directory_can_be_moved(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = store(key_of())
    moved = work_folder.with_name("moved")
    work_folder.rename(moved)
    monkeypatch.setenv("SFT_HOME", str(moved))
    assert look(key_of()).reference == written


def test_a_key_is_computed_by_one_run_at_a_time(work_folder: Path) -> None:
    key = StageKey("decide", {"stage": "decide"})
    told: list[str] = []
    with stage_lock(key, told.append):
        second = FileLock(work_folder / f"{key.folder}.lock")
        with pytest.raises(Timeout):
            second.acquire(timeout=0)
    second.acquire(timeout=0)
    assert told == []

    def end_second(sentence: str) -> None:
        told.append(sentence)
        second.release()

    with stage_lock(key, end_second):
        assert not second.is_locked
    assert told == ["another run computes the same decide: waiting for it"]


def test_renewed_output_is_in_its_place_before_the_old_one_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = store(key_of(), "old\n")
    present: list[str] = []

    def delete(folder: Path, **_: object) -> None:
        if folder.exists():
            present.append((folder / "train.jsonl").read_text())
            present.append(locate(old, "train.jsonl").read_text())

    monkeypatch.setattr(shutil, "rmtree", delete)
    store(key_of(), "new\n")
    assert present == ["old\n", "new\n"]


def test_what_a_killed_run_left_of_the_key_is_removed() -> None:
    key, other = StageKey("decide", {"a": "1"}), StageKey("decide", {"a": "2"})
    killed, foreign = OutputFolder(key), OutputFolder(other)
    (killed.path / "half.json").write_text("{")
    again = OutputFolder(key)
    assert not killed.path.exists()
    assert again.path.is_dir()
    assert foreign.path.is_dir()
