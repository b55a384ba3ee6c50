from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock, Timeout

from schemas.config.storage import StorageConfig
from tasks.engine.active_runs import active_run
from tasks.engine.cache import OutputFolder, generation
from tasks.storage import clean as clean_module
from tasks.storage.clean import clean, remove_output
from tasks.storage.outputs import folder_bytes, list_outputs
from tests.support.outputs import key_of, store, stored, use

MEGABYTE = 1_000_000
OLD = StorageConfig(max_age_days=30)


@pytest.fixture(autouse=True)
def _no_alias(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def megabytes(n: float) -> StorageConfig:
    return StorageConfig(max_size_gb=n / 1000)


def set_age(path: Path, days: float) -> None:
    at = time.time() - days * 86_400
    os.utime(path, (at, at))


def test_nothing_is_removed_without_a_limit(work_folder: Path) -> None:
    old = store("decide", days=1000)
    report = clean(StorageConfig())
    assert (report.removed, report.n_freed_bytes, report.n_kept_bytes) == ((), 0, None)
    assert stored(old)


def test_what_was_not_used_for_long_is_removed(work_folder: Path) -> None:
    old, new = store("decide", days=31, seed=1), store("decide", days=29, seed=2)
    evidence = work_folder / "rejected" / "check_schema" / "abc"
    evidence.mkdir(parents=True)
    set_age(evidence, 31)
    report = clean(OLD)
    assert {(one.path, one.reason) for one in report.removed} == {
        (old.folder, "age"),
        ("rejected/check_schema/abc", "age"),
    }
    assert not stored(old)
    assert stored(new)
    assert not evidence.exists()
    assert report.n_kept_bytes == sum(one.n_bytes for one in list_outputs())


def test_the_size_is_kept_by_removing_what_was_not_used_for_longest(work_folder: Path) -> None:
    made = [store("train_model", MEGABYTE, days, seed=days) for days in (3, 1, 2)]
    report = clean(megabytes(2.1))
    assert [one.reason for one in report.removed] == ["size"]
    assert [stored(one) for one in made] == [False, True, True]
    assert clean(megabytes(2.1)).removed == ()
    clean(megabytes(0.5))
    assert list_outputs() == []


def test_what_is_needed_stays_even_beyond_the_size(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, other = (store("train_model", MEGABYTE, days, seed=days) for days in (90, 1))
    path = work_folder / needed.folder
    monkeypatch.setattr(clean_module, "needed_outputs", lambda *_: {path})
    report = clean(StorageConfig(max_size_gb=0.0005, max_age_days=30))
    assert stored(needed)
    assert not stored(other)
    assert report.n_needed_bytes == report.n_kept_bytes == folder_bytes(path) > MEGABYTE


def make_training(home: Path, days: float) -> Path:
    folder = home / "checkpoints" / "abc"
    (folder / "checkpoint-20").mkdir(parents=True)
    (folder / "checkpoint-20" / "weights").write_bytes(b"." * 1000)
    (folder / ".lock").touch()
    for path in (folder / "checkpoint-20" / "weights", folder / "checkpoint-20", folder):
        set_age(path, days)
    return folder


def test_a_dry_run_removes_nothing(work_folder: Path) -> None:
    old = store("decide", days=31)
    left = work_folder / "stages" / "decide" / ".tmp-abc-1"
    left.mkdir()
    set_age(left, 2)
    training = make_training(work_folder, days=31)
    would = clean(OLD, is_dry_run=True)
    assert would.is_dry_run
    assert stored(old)
    assert left.exists()
    assert training.exists()
    assert clean(OLD).removed == would.removed


def test_what_a_run_in_progress_has_used_stays(work_folder: Path) -> None:
    before, used = store("decide", days=31, seed=1), store("decide", days=31, seed=2)
    with active_run():
        use(used, 0)
        clean(megabytes(0.000001))
        assert stored(used)
        assert not stored(before)
    clean(megabytes(0.000001))
    assert not stored(used)


def test_what_is_used_while_it_is_removed_stays(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store("decide", days=31)
    (listed,) = list_outputs()
    use(old, 0)
    assert not remove_output(listed)
    assert stored(old)
    assert list((work_folder / "stages" / "decide").glob(".tmp-*")) == []


@pytest.mark.parametrize("step", ["list_outputs", "earliest_start"])
@pytest.mark.parametrize("is_before", [True, False])
def test_what_a_run_uses_that_starts_at_any_moment_stays(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_before: bool
) -> None:
    """Used before the list, it is of a known run; used after it, the time is another one than listed."""
    old = store("decide", days=31)
    known = getattr(clean_module, step)
    with ExitStack() as run:

        def start() -> None:
            run.enter_context(active_run())
            use(old, 0)

        def meanwhile() -> object:
            if is_before:
                start()
            found = known()
            if not is_before:
                start()
            return found

        monkeypatch.setattr(clean_module, step, meanwhile)
        assert clean(megabytes(0.000001)).removed == ()
    assert stored(old)


def test_evidence_written_again_while_it_is_removed_stays(work_folder: Path) -> None:
    evidence = work_folder / "rejected" / "check_schema" / "abc"
    evidence.mkdir(parents=True)
    set_age(evidence, 31)
    (listed,) = list_outputs()
    with FileLock(work_folder / "stages" / "check_schema" / "abc.lock"):
        assert not remove_output(listed)
    set_age(evidence, 0)
    assert not remove_output(listed)
    assert evidence.is_dir()


def test_what_a_run_computes_at_the_moment_stays(work_folder: Path) -> None:
    old = store("decide", days=31)
    with FileLock(work_folder / f"{old.folder}.lock"):
        assert clean(OLD).removed == ()
    assert stored(old)
    clean(OLD)
    assert not stored(old)


def test_what_a_killed_process_left_is_removed(work_folder: Path) -> None:
    key = key_of("decide", seed=1)
    left = OutputFolder(key)
    (left.path / "weights").write_bytes(b"." * 1000)
    set_age(left.path, 2)
    assert clean(StorageConfig()).removed == ()  # written today, perhaps on another machine
    set_age(left.path / "weights", 2)
    with FileLock(work_folder / f"{key.folder}.lock"):
        assert clean(StorageConfig()).removed == ()
    report = clean(StorageConfig())
    assert [(one.n_bytes, one.reason) for one in report.removed] == [(1000, "unfinished")]
    assert not left.path.exists()


def test_locks_and_numbers_go_with_their_outputs(work_folder: Path) -> None:
    old, new = store("decide", days=31, seed=1), store("decide", seed=2)
    for one, seed in ((old, 1), (new, 2)):
        (work_folder / f"{one.folder}.lock").touch()
        generation(key_of("decide", seed=seed), is_renewed=True)
    (work_folder / "stages" / "decide" / "gone.lock").touch()
    clean(OLD)
    names = {path.name.partition(".")[2] for path in (work_folder / "stages/decide").iterdir()}
    assert names == {"", "generation", "lock", "json"}
    assert (work_folder / f"{new.folder}.lock").exists()
    assert not (work_folder / f"{old.folder}.lock").exists()
    assert not (work_folder / f"{old.folder}.generation").exists()
    assert not (work_folder / "stages" / "decide" / "gone.lock").exists()


def test_old_journals_and_results_go_and_the_newest_journal_stays(work_folder: Path) -> None:
    for folder in ("runs", "results", "history"):
        (work_folder / folder).mkdir(parents=True)
        for number in range(3):
            path = work_folder / folder / f"{number}.jsonl"
            path.write_text("{}\n", encoding="utf-8")
            set_age(path, 40 - number)
    (work_folder / ".config.json.12345678.partial").touch()
    set_age(work_folder / ".config.json.12345678.partial", 2)
    clean(OLD)
    left = {folder: len(list((work_folder / folder).iterdir())) for folder in ("runs", "results")}
    assert left == {"runs": 1, "results": 1}
    assert (work_folder / "runs" / "2.jsonl").exists()
    assert len(list((work_folder / "history").iterdir())) == 3
    assert not list(work_folder.glob(".*.partial"))


@pytest.mark.parametrize("days", [29, 31])
def test_checkpoints_and_what_they_need_stay_within_the_limit_of_age(
    work_folder: Path, days: float
) -> None:
    read = store("check_quality", days=31)
    training = make_training(work_folder, days)
    spec = training / "spec.json"
    spec.write_text(json.dumps({"fingerprint": {"input quality": read.sha256}}), encoding="utf-8")
    set_age(spec, days)
    set_age(training, days)
    clean(megabytes(0.000001))  # whatever the size
    assert training.exists()
    assert stored(read)
    removed = {one.path: one.reason for one in clean(OLD).removed}
    assert training.exists() is stored(read) is (days < 30)
    assert removed == ({} if days < 30 else {"checkpoints/abc": "age", read.folder: "age"})
    assert days < 30 or list((work_folder / "checkpoints").iterdir()) == []


def test_nothing_is_removed_where_the_registry_does_not_answer(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store("decide", days=31)
    left = OutputFolder(key_of("decide", seed=1))

    def fail(*_: object) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(clean_module, "needed_outputs", fail)
    with pytest.raises(ConnectionError):
        clean(OLD)
    assert stored(old)
    assert left.path.exists()


def test_who_waits_for_a_lock_that_is_removed_gets_a_new_one(work_folder: Path) -> None:
    """What `clean` relies on where it removes a lock that another process has opened."""
    path = work_folder / "a.lock"
    work_folder.mkdir()
    has_lock, may_end = Event(), Event()

    def wait() -> None:
        with FileLock(path):
            has_lock.set()
            may_end.wait(30)

    waiter = Thread(target=wait)
    with FileLock(path):
        waiter.start()
        path.unlink()
    assert has_lock.wait(30)
    with pytest.raises(Timeout):
        FileLock(path).acquire(timeout=0)
    may_end.set()
    waiter.join()
