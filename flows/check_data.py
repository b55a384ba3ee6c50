"""The data gate alone: is this data fit to train this model on?"""

from __future__ import annotations

from typing import NamedTuple

from prefect import flow

from flows._rejections import noted_rejections, tells_rejections
from schemas.config.run import RunConfig
from schemas.records.references import (
    CheckedReference,
    DatasetReference,
    QualityReference,
    SplitReference,
    TemplateReference,
)
from schemas.records.stages import Stage
from tasks.check_quality import check_quality
from tasks.check_schema import check_schema
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.split_dataset import split_dataset


class GatedRows(NamedTuple):
    """Rows that passed the data gate, and the model prepared for them; named as in `Evidence`."""

    dataset: DatasetReference
    template: TemplateReference
    checked: CheckedReference
    split: SplitReference
    quality: QualityReference


@flow(name="check-data", flow_run_name="{config.registry.name}", log_prints=False)
@tells_rejections
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
    return gate_rows(config, load_dataset(config.data.origin)).quality


def gate_rows(config: RunConfig, dataset: DatasetReference) -> GatedRows:
    """Call the stages of the data gate in their order.

    Args:
        config: Everything the run depends on.
        dataset: The rows.

    Returns:
        What they produced.
    """
    with noted_rejections(config, dataset):
        template = prepare_template(config.start, config.template, config.seed)
        checked = check_schema(dataset, config.data.rules, template.special_tokens)
        split = split_dataset(
            checked, config.split, config.seed, config.quality.near_duplicate_similarity
        )
        quality = check_quality(
            split, checked, template, config.quality, config.registry, config.data.weights
        )
    return GatedRows(dataset, template, checked, split, quality)
