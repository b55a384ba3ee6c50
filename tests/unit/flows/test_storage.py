from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import _storage
from flows._storage import apply_limits, bounds_storage
from flows.check_data import check_data
from flows.retrain_model import retrain_model
from flows.sweep_training import sweep_training
from flows.train_sft import train_sft
from schemas.config.run import RunConfig
from schemas.config.storage import StorageConfig
from schemas.errors import DataRejected, ServiceUnreachable
from tasks.dataset.refusal import keep_evidence
from tasks.engine.active_runs import earliest_start
from tasks.engine.cache import OutputFolder
from tasks.engine.stage import PLAN, Plan
from tests.support.outputs import key_of, store, stored

LIMITED = RunConfig(storage=StorageConfig(max_age_days=30))


@pytest.fixture(autouse=True)
def _logger(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(_storage, "get_run_logger", lambda: logging.getLogger("run"))


def run_with(inner: Callable[[], object]) -> Callable[[RunConfig], object]:
    @bounds_storage
    def run(config: RunConfig = RunConfig()) -> object:  # noqa: B008 - frozen
        return inner()

    return run


def test_a_run_is_in_progress_until_it_ends_and_then_limits_apply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = store("decide", days=31)
    caplog.set_level(logging.INFO)
    seen: list[tuple[bool, bool]] = []
    run_with(lambda: seen.append((earliest_start() < float("inf"), stored(old))))(LIMITED)
    assert seen == [(True, True)]
    assert earliest_start() == float("inf")
    assert not stored(old)
    assert "removed 1 old or unfinished outputs and files" in caplog.text


def test_by_default_no_output_is_removed() -> None:
    old = store("decide", days=1000)
    run_with(lambda: None)(RunConfig())
    assert stored(old)


def test_a_run_with_rejected_data_is_bounded_too() -> None:
    old = store("decide", days=31)

    def reject() -> None:
        raise DataRejected("bad rows", fix="repair them")

    with pytest.raises(DataRejected):
        run_with(reject)(LIMITED)
    assert not stored(old)
    assert earliest_start() == float("inf")


def test_a_run_keeps_what_it_made_however_small_the_limits() -> None:
    tiny = RunConfig(storage=StorageConfig(max_size_gb=1e-9, max_age_days=1e-9))
    old = store("decide", days=1, seed=1)
    assert stored(run_with(lambda: store("decide", seed=2))(tiny))  # type: ignore[arg-type]
    assert not stored(old)


def test_a_run_that_fails_keeps_what_its_repetition_needs_and_the_evidence() -> None:
    tiny = RunConfig(storage=StorageConfig(max_size_gb=1e-9, max_age_days=1e-9))
    old, made = store("decide", days=1, seed=1), []
    output = OutputFolder(key_of("check_schema"))
    (output.path / "quarantine.jsonl").touch()
    os.utime(keep_evidence(output, ("quarantine.jsonl",)), (1.0, 1.0))

    def reject() -> None:
        made.append(store("load_dataset"))
        raise DataRejected(str(keep_evidence(output, ("quarantine.jsonl",))), fix="repair them")

    with pytest.raises(DataRejected) as caught:
        run_with(reject)(tiny)
    assert stored(made[0])
    assert not stored(old)
    assert (Path(caught.value.what) / "quarantine.jsonl").is_file()


@pytest.mark.parametrize("error", [ServiceUnreachable("no answer", fix="start it"), OSError(5)])
def test_a_fault_while_cleaning_is_a_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: StorageConfig) -> None:
        raise error

    monkeypatch.setattr(_storage, "clean", fail)
    assert run_with(lambda: "done")(LIMITED) == "done"
    assert "old outputs were not removed" in caplog.text


def test_a_plan_removes_nothing() -> None:
    old = store("decide", days=31)
    token = PLAN.set(Plan(frozenset()))
    try:
        assert run_with(earliest_start)(LIMITED) == float("inf")
    finally:
        PLAN.reset(token)
    assert stored(old)


def test_apply_limits_says_nothing_where_nothing_was_removed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    apply_limits(StorageConfig(max_size_gb=1))
    assert caplog.text == ""


@pytest.mark.parametrize("flow", [train_sft, retrain_model, check_data, sweep_training])
def test_every_flow_with_stages_is_bounded(flow: object) -> None:
    function = inspect.unwrap(flow.fn, stop=lambda one: one.__code__.co_name == "bounded")  # type: ignore[attr-defined]
    assert function.__code__.co_name == "bounded"
