"""Stage `search_settings`: trials of training settings, the best by validation loss."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.stage import BACKOFF_SECONDS, RETRIES, should_retry
from tasks.sweep.results import SweepReport
from tasks.sweep.study import run_sweep_study


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
    """Try settings of the training and find those with the smallest validation loss."""
    return run_sweep_study(config, sweep, template, quality)
