"""Flow `check-data`: the data gate only."""

from __future__ import annotations

from typing import NamedTuple

from prefect import flow

from flows._rejections import handles_rejection, recorded_rejections
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
from tasks.dataset.pinned_rows import PinnedRules
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
@handles_rejection
def check_data(
    config: RunConfig = RunConfig(),  # noqa: B008 - frozen
    refresh: tuple[Stage, ...] = (),
) -> QualityReference:
    """Check the data against every rule, including token rules; later runs reuse the results.

    Args:
        config: Settings; those of training and later stages are ignored.
        refresh: Stages to compute again even if nothing changed.

    Returns:
        Reference to the tokens, with the verdict.
    """
    return gate_rows(config, load_dataset(config.data.origin)).quality


def gate_rows(config: RunConfig, dataset: DatasetReference) -> GatedRows:
    """Run the stages of the data gate in order."""
    with recorded_rejections(config, dataset):
        template = prepare_template(config.start, config.template, config.seed)
        checked = check_schema(dataset, config.data.rules, template.special_tokens)
        similarity = config.quality.near_duplicate_similarity
        pinned_rules = None  # without pinned rows, the split does not depend on the rules
        if config.split.pinned:
            pinned_rules = PinnedRules(
                rules=config.data.rules, special_tokens=template.special_tokens
            )
        split = split_dataset(checked, config.split, config.seed, similarity, pinned_rules)
        quality = check_quality(
            split, checked, template, config.quality, config.registry, config.data.weights
        )
    return GatedRows(dataset, template, checked, split, quality)
