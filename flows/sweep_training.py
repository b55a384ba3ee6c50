"""The sweep: checked data once, then many trainings that are compared on the validation rows."""

from __future__ import annotations

from prefect import flow

from flows._rejections import tells_rejections
from flows.check_data import gate_rows
from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig
from tasks.check_environment import check_environment
from tasks.load_dataset import load_dataset
from tasks.search_settings import search_settings
from tasks.sweep.results import SweepReport


@flow(name="sweep-training", flow_run_name="{config.registry.name}", log_prints=False)
@tells_rejections
def sweep_training(config: RunConfig, sweep: SweepConfig) -> SweepReport:
    """Find the settings of the training with the smallest validation loss."""
    check_environment()
    rows = gate_rows(config, load_dataset(config.data.origin))
    return search_settings(config, sweep, rows.template, rows.quality)
