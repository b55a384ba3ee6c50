"""A sweep: Optuna proposes settings, trials measure them, a study in SQLite remembers all."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from filelock import FileLock, Timeout

from schemas.config.run import RunConfig
from schemas.config.sweep import Dimension, Range, SweepConfig
from schemas.errors import ConfigError, TrainingInterrupted, WorkDirectoryError
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.redaction import public_settings
from tasks.sweep._listener import WARM_UP_POINTS
from tasks.sweep._mlflow_runs import SweepRuns
from tasks.sweep._trial import RUN_ID, Search, run_trial
from tasks.sweep.results import BEST, SweepReport, find_best, list_trials, write_best
from tasks.training.plan.accelerate_file import accelerate_file_sha256

if TYPE_CHECKING:
    from optuna import Study, Trial

STUDY = "sweep"
LIBRARIES = ("accelerate", "optuna", "peft", "sft-flow", "torch", "transformers", "trl")
"""Packages whose version shapes what a trial comes to."""
DATABASE_WAIT_SECONDS = 60
"""SQLite's own 5 are too few where the disk is slow: "database is locked"."""


def require_optuna() -> None:
    """Insist on the library, before anything runs.

    Raises:
        ConfigError: It is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "a sweep needs Optuna",
            where="this Python environment",
            expected="the package optuna",
            got="not installed",
            fix="pip install 'sft-flow[sweep]'",
        )


def sweep_fingerprint(
    config: RunConfig, sweep: SweepConfig, template: TemplateReference, quality: QualityReference
) -> dict[str, str]:
    """Name everything that shapes the trials; how many there are and how long they take do not.

    Args:
        config: The resolved configuration.
        sweep: What is varied.
        template: The prepared model.
        quality: The tokenised rows.

    Returns:
        Parts by name.
    """
    space = sweep.model_dump_json(include={"search", "startup_trials"})
    parts = {
        "model": template.sha256,
        "rows": quality.sha256,
        "config": config.training.model_dump_json(),
        "accelerate file": accelerate_file_sha256({"training": config.training}),
        "seed": str(config.seed),
        "space": space,
    }
    return parts | {f"library {name}": importlib.metadata.version(name) for name in LIBRARIES}


@contextmanager
def open_study(folder: Path, startup_trials: int) -> Iterator[Study]:
    """Open the study of a sweep, alone, or make it.

    Args:
        folder: Of the sweep.
        startup_trials: Trials that are never stopped early.

    Yields:
        The study; it minimises.

    Raises:
        WorkDirectoryError: Another process runs this sweep.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise WorkDirectoryError(
            "another process runs this very sweep",
            where=str(folder),
            fix="wait until it is done, or stop it; then run again",
        ) from error
    with lock:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder / 'study.db'}",
            engine_kwargs={"connect_args": {"timeout": DATABASE_WAIT_SECONDS}},
        )
        try:
            yield optuna.create_study(
                storage=storage,
                study_name=STUDY,
                load_if_exists=True,
                # Median, not Hyperband, which needs dozens of trials before it saves any time.
                pruner=optuna.pruners.MedianPruner(startup_trials, WARM_UP_POINTS),
            )
        finally:
            storage.remove_session()
            storage.engine.dispose()


def next_trial(study: Study, search: Search) -> Trial | None:
    """Take up the trial that was interrupted, or begin one.

    Each trial is drawn with a seed of its own, so that a sweep that was interrupted draws the
    same settings as one that was not.

    Args:
        study: The sweep's.
        search: Says how many trials there are, and the seed.

    Returns:
        A trial, or None when all are made.
    """
    import optuna

    trials = study.get_trials(deepcopy=False)
    interrupted = [trial for trial in trials if not trial.state.is_finished()]
    number = interrupted[0].number if interrupted else len(trials)
    if number >= search.sweep.trials:
        return None
    study.sampler = optuna.samplers.TPESampler(seed=(search.config.seed + number) % 2**32)
    if interrupted:
        return optuna.trial.Trial(study, interrupted[0]._trial_id)
    return study.ask()


def make_trials(search: Search, study: Study, runs: SweepRuns, parent_id: str) -> bool:
    """Run trials until all are made or time is up.

    Args:
        search: What they share.
        study: The sweep's.
        runs: The MLflow store.
        parent_id: The run of the sweep.

    Returns:
        True when time was up first.
    """
    started = time.monotonic()
    limit = search.sweep.timeout_seconds
    n_made = 0
    while limit is None or not n_made or time.monotonic() - started < limit:
        trial = next_trial(study, search)
        if trial is None:
            return False
        run_trial(search, trial, runs, parent_id)
        n_made += 1
    n_finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return n_finished < search.sweep.trials


def _remove_leftovers(search: Search, study: Study) -> None:
    """Remove weights of trials that are over; the process may have been killed before it did."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished():
            shutil.rmtree(search.trial_folder(trial.number), ignore_errors=True)


def _search(search: Search, study: Study, runs: SweepRuns) -> SweepReport:
    space = {f"search.{key}": _shown(value) for key, value in search.sweep.search.items()}
    params = {"seed": search.config.seed, **space}
    name = f"sweep {search.config.registry.name}"
    run_id = runs.open_sweep(study.user_attrs.get(RUN_ID), name, params)
    study.set_user_attr(RUN_ID, run_id)
    try:
        is_timed_out = make_trials(search, study, runs, run_id)
        trials = list_trials(study)
        best = find_best(trials)
        path = search.folder / BEST
        if best and best.validation_loss is not None:
            settings = write_best(search.config, best, path)
            runs.measure(run_id, best.validation_loss)
            runs.keep_text(run_id, yaml.safe_dump(public_settings(settings)), BEST)
    except BaseException as error:
        is_stopped = not isinstance(error, Exception) or isinstance(error, TrainingInterrupted)
        runs.close(run_id, "KILLED" if is_stopped else "FAILED", "" if is_stopped else str(error))
        raise
    runs.close(run_id, "FINISHED" if best else "FAILED")
    return SweepReport(
        folder=search.folder,
        trials=trials,
        best=best,
        best_config=path if best else None,
        is_timed_out=is_timed_out,
        mlflow_run_id=run_id,
    )


def _shown(dimension: Dimension) -> str:
    """Write a dimension as the user does."""
    if isinstance(dimension, Range):
        return f"{dimension.low}..{dimension.high}{':log' if dimension.is_log else ''}"
    return yaml.safe_dump(list(dimension.choices), default_flow_style=True).strip()
