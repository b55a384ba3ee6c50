"""A sweep: Optuna samples settings, trials measure them, a study in SQLite remembers everything."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from filelock import FileLock, Timeout
from prefect.logging import get_run_logger

from schemas.config.run import RunConfig
from schemas.config.sweep import Dimension, OneOf, SweepConfig
from schemas.errors import DataSourceError, WorkDirectoryError
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.home import work_directory
from tasks.engine.redaction import public_settings
from tasks.registry.store import store_errors
from tasks.sweep._trial import Search, SweepRuns, run_trial
from tasks.sweep.results import BEST, SweepReport, find_best, list_trials, write_best
from tasks.training.plan.accelerate_file import accelerate_file_sha256

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

LIBRARIES = ("accelerate", "optuna", "peft", "sft-flow", "torch", "transformers", "trl")
"""Packages whose version shapes the result of a trial."""
DATABASE_WAIT_SECONDS = 60
"""SQLite's own 5 are too few where the disk is slow: "database is locked"."""
WARM_UP_POINTS = 2
"""First point at which a trial may be pruned; before it the learning rate still rises."""


def sweep_fingerprint(
    config: RunConfig, sweep: SweepConfig, template: TemplateReference, quality: QualityReference
) -> dict[str, str]:
    """Collect what shapes the trials, by name; how many there are and their time limit do not."""
    parts = {
        "model": template.sha256,
        "rows": quality.sha256,
        "config": config.training.model_dump_json(),
        "accelerate file": accelerate_file_sha256({"training": config.training}),
        "seed": str(config.seed),
        "space": sweep.model_dump_json(include={"search", "startup_trials"}),
    }
    return parts | {f"library {name}": importlib.metadata.version(name) for name in LIBRARIES}


@contextmanager
def open_study(folder: Path, startup_trials: int) -> Iterator[Study]:
    """Open or create the study of a sweep, and put an interrupted trial back into its queue.

    A WorkDirectoryError when another process runs the sweep.
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
            study = optuna.create_study(
                storage=storage,
                study_name="sweep",
                load_if_exists=True,
                # Median, not Hyperband, which needs dozens of trials before it saves any time.
                pruner=optuna.pruners.MedianPruner(startup_trials, WARM_UP_POINTS),
            )
            for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
                storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.WAITING)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def distribution(values: Dimension) -> BaseDistribution:
    """Convert the values of one setting into Optuna's distribution."""
    from optuna import distributions as of

    if isinstance(values, OneOf):
        return of.CategoricalDistribution(values.choices)
    kind = of.IntDistribution if isinstance(values.low, int) else of.FloatDistribution
    return kind(values.low, values.high, log=values.is_log)


def next_trial(study: Study, search: Search) -> Trial | None:
    """Take the interrupted trial, with its settings, or sample a new one; None when all are made.

    Each trial has its own seed: an interrupted sweep samples the same settings as any other.
    """
    import optuna

    number = len(list_trials(study))
    if number >= search.sweep.trials:
        return None
    study.sampler = optuna.samplers.TPESampler(seed=(search.config.seed + number) % 2**32)
    return study.ask({key: distribution(values) for key, values in search.sweep.search.items()})


def run_sweep_study(
    config: RunConfig, sweep: SweepConfig, template: TemplateReference, quality: QualityReference
) -> SweepReport:
    """Run the trials that earlier calls of the sweep have not made, and write `best.yaml`.

    A DataSourceError when no row is kept for validation.
    """
    if not quality.n_validation_rows:
        raise DataSourceError(
            "no row is kept for validation, so that trials cannot be compared",
            where="split.validation_fraction",
            expected="at least one row",
            got=f"{config.split.validation_fraction:g} of few rows",
            fix="raise split.validation_fraction or add rows",
        )
    parts = sweep_fingerprint(config, sweep, template, quality)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    folder = work_directory() / "sweeps" / digest
    search = Search(config, sweep, template, quality, folder, parts)
    get_run_logger().info("sweep: %s", folder)
    runs = SweepRuns(config.registry.experiment, digest)
    with open_study(folder, sweep.startup_trials) as study:
        for trial in list_trials(study):  # weights that a killed process left
            shutil.rmtree(folder / "trials" / str(trial.number), ignore_errors=True)
        return _run_trials(search, study, runs)


def _run_trials(search: Search, study: Study, runs: SweepRuns) -> SweepReport:
    """Run trials until all are made or, after the first, time is up."""
    config, sweep, path = search.config, search.sweep, search.folder / BEST
    space = {f"search.{key}": _shown(values) for key, values in sweep.search.items()}
    params = {"seed": config.seed, **space}
    end = time.monotonic() + (sweep.timeout_seconds or math.inf)
    with runs.run(study, f"sweep {config.registry.name}", params) as run_id:
        while trial := next_trial(study, search):
            run_trial(search, trial, runs, run_id)
            if time.monotonic() >= end:
                break
        trials = list_trials(study)
        best = find_best(trials)
        if best and best.validation_loss is not None:
            settings = write_best(config, best, path)
            runs.log_loss(run_id, best.validation_loss)
            with store_errors():
                text = yaml.safe_dump(public_settings(settings))
                runs.client.log_text(run_id, text, BEST)
    if best is None:
        with store_errors():
            runs.client.set_terminated(run_id, "FAILED")
    return SweepReport(
        folder=search.folder,
        trials=trials,
        best=best,
        best_config=path if best else None,
        is_timed_out=len(trials) < sweep.trials,
        mlflow_run_id=run_id,
    )


def _shown(values: Dimension) -> str:
    """Format the values of one setting as in `--search`."""
    if isinstance(values, OneOf):
        return yaml.safe_dump(list(values.choices), default_flow_style=True).strip()
    return f"{values.low}..{values.high}{':log' if values.is_log else ''}"
