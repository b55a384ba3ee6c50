"""The sweep: checked data once, then many trainings that are compared on the validation rows."""

from __future__ import annotations

from prefect import flow

from schemas.run_config import RunConfig
from schemas.sweep_config import SweepConfig
from tasks._sweep import search_settings
from tasks._sweep_report import SweepReport
from tasks.check_environment import check_environment
from tasks.check_quality import check_quality
from tasks.check_schema import check_schema
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.split_dataset import split_dataset


@flow(name="sweep-training", flow_run_name="{config.registry.name}", log_prints=False)
def sweep_training(config: RunConfig, sweep: SweepConfig) -> SweepReport:
    """Find the settings of the training with the smallest validation loss.

    Args:
        config: Everything the trainings depend on; the gates judge the best one in `train_sft`.
        sweep: What is varied, and how often.

    Returns:
        The trials and the best settings.
    """
    check_environment()
    dataset = load_dataset(config.data.origin)
    template = prepare_template(config.start, config.template, config.seed)
    checked = check_schema(dataset, config.data.rules, template.special_tokens)
    split = split_dataset(
        checked, config.split, config.seed, config.quality.near_duplicate_similarity
    )
    quality = check_quality(
        split, checked, template, config.quality, config.registry, config.data.weights
    )
    return search_settings(config, sweep, template, quality)
