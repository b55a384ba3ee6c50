"""The data gate alone: is this data fit to train this model on?"""

from __future__ import annotations

from prefect import flow

from schemas.records import QualityReference
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks.check_quality import check_quality
from tasks.check_schema import check_schema
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.split_dataset import split_dataset


@flow(name="check-data", flow_run_name="{config.registry.name}", log_prints=False)
def check_data(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen
    refresh: tuple[Stage, ...] = (),
) -> QualityReference:
    """Hold rows and set to every rule, those on tokens included; a later run finds it all cached.

    Args:
        config: Everything the run depends on; training and what follows it are not read.
        refresh: Stages to compute anew although nothing they depend on changed.

    Returns:
        Reference to the tokens, with the verdict.
    """
    dataset = load_dataset(config.data.origin)
    template = prepare_template(config.start, config.template, config.seed)
    checked = check_schema(dataset, config.data.rules, template.special_tokens)
    split = split_dataset(
        checked, config.split, config.seed, config.quality.near_duplicate_similarity
    )
    return check_quality(
        split, checked, template, config.quality, config.registry, config.data.weights
    )
