"""Stage `search_settings`: trials of training settings, the best by validation loss."""

from __future__ import annotations

import hashlib
import json

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig
from schemas.errors import DataSourceError
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.home import work_directory
from tasks.engine.stage import BACKOFF_SECONDS, RETRIES, should_retry
from tasks.sweep._mlflow_runs import SweepRuns
from tasks.sweep._trial import Search
from tasks.sweep.results import SweepReport
from tasks.sweep.study import _remove_leftovers, _search, open_study, sweep_fingerprint
from tasks.training.plan.machine import examine_machine


@task(
    name="search_settings",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF_SECONDS),
    retry_condition_fn=should_retry,
)
def search_settings(
    config: RunConfig, sweep: SweepConfig, template: TemplateReference, quality: QualityReference
) -> SweepReport:
    """Try settings of the training and find those with the smallest validation loss.

    Args:
        config: The resolved configuration; its training section is what is varied.
        sweep: What is varied, and how often.
        template: The prepared model.
        quality: The tokenised rows; those kept for validation are measured.

    Returns:
        The trials, those of earlier calls included, and the best.

    Raises:
        DataSourceError: No row is kept for validation.
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
    machine = examine_machine(config.training.device)
    search = Search(config, sweep, template, quality, machine, folder, parts)
    get_run_logger().info("sweep: %s", folder)
    with open_study(folder, sweep.startup_trials) as study:
        _remove_leftovers(search, study)
        return _search(search, study, SweepRuns(config.registry.experiment, digest))
