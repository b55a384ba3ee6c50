"""Flow `check-data`: the data gate only."""

from __future__ import annotations

from typing import NamedTuple

from prefect import flow

from flows._late_runs import yields_to_newer
from flows._private_parameters import hides_secrets
from flows._rejections import handles_rejection, recorded_rejections
from flows._storage import bounds_storage
from schemas.config.run import RunConfig, seed_of
from schemas.errors import SftFlowError
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
from tasks.dataset.retention_rows import RetentionRequest
from tasks.engine.stage import look_ahead
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.registry.rejections import Rejection, read_rejections
from tasks.split_dataset import split_dataset


class GatedRows(NamedTuple):
    """Rows that passed the data gate, and the model prepared for them; named as in `Evidence`."""

    dataset: DatasetReference
    template: TemplateReference
    checked: CheckedReference
    split: SplitReference
    quality: QualityReference


@hides_secrets
@flow(name="check-data", flow_run_name="{config.registry.name}", log_prints=False)
@yields_to_newer
@handles_rejection
@bounds_storage
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


def find_rejection(config: RunConfig, dataset: DatasetReference) -> Rejection | None:
    """Return the last rejection of these rows if all that the data gate reads is as it was then.

    The stages of the gate are looked up, not run: the one that rejected the rows has no output, so
    it is the first that would run, and its key contains rows, rules and settings, pinned rows,
    benchmarks, the profile compared with, code and libraries.
    """
    known = [
        one for one in read_rejections(config.registry.name) if one.rows_sha256 == dataset.sha256
    ]
    if not known:
        return None
    try:
        last = look_ahead(lambda: gate_rows(config, dataset))[-1]
    except SftFlowError:
        return None  # the gate meets the same error, where it is raised and retried or not
    if last.reference is not None:
        return None
    return next((one for one in reversed(known) if one.stage_key == last.key.folder), None)


def gate_rows(config: RunConfig, dataset: DatasetReference) -> GatedRows:
    """Run the stages of the data gate in order."""
    with recorded_rejections(config, dataset):
        template = prepare_template(config.start, config.template, config.seed)
        checked = check_schema(dataset, config.data.rules, template.special_tokens)
        similarity = config.quality.near_duplicate_similarity
        rules = PinnedRules(rules=config.data.rules, special_tokens=template.special_tokens)
        # Without pinned rows, the split does not depend on the rules.
        pinned_rules = rules if config.split.pinned else None
        split = split_dataset(
            checked, config.split, seed_of(config, config.split), similarity, pinned_rules
        )
        retention = None
        if config.evaluation.retention:
            retention = RetentionRequest(sources=config.evaluation.retention, pinned=rules)
        quality = check_quality(
            split,
            checked,
            template,
            config.quality,
            config.registry,
            config.data.weights,
            retention,
        )
    return GatedRows(dataset, template, checked, split, quality)
