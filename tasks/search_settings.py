"""Stage `search_settings`: trials of training settings, the best by validation loss."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig
from schemas.records.references import QualityReference, TemplateReference
from tasks.engine.stage import retried_task
from tasks.sweep.results import SweepReport
from tasks.sweep.study import run_sweep_study


@retried_task
def search_settings(
    config: RunConfig, sweep: SweepConfig, template: TemplateReference, quality: QualityReference
) -> SweepReport:
    """Try settings of the training and find those with the smallest validation loss."""
    return run_sweep_study(config, sweep, template, quality)
