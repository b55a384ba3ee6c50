"""Flow `sweep-training`: check the data once, then compare many trainings on the validation rows."""

from __future__ import annotations

from prefect import flow

from flows._private_parameters import hides_secrets
from flows._rejections import handles_rejection
from flows._storage import bounds_storage
from flows.check_data import gate_rows
from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig
from tasks.check_environment import check_environment
from tasks.load_dataset import load_dataset
from tasks.search_settings import search_settings
from tasks.sweep.results import SweepReport


@hides_secrets
@flow(name="sweep-training", flow_run_name="{config.registry.name}", log_prints=False)
@handles_rejection
@bounds_storage
def sweep_training(config: RunConfig, sweep: SweepConfig) -> SweepReport:
    """Search the training settings with the lowest validation loss.

    Args:
        config: Settings of the trainings; the gates are not run.
        sweep: Search space and number of trials.

    Returns:
        The trials and the best settings.
    """
    check_environment()
    rows = gate_rows(config, load_dataset(config.data.origin))
    return search_settings(config, sweep, rows.template, rows.quality)
