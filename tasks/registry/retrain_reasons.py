"""What has changed since the version of a name that was judged last, and whether that is a reason."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.registry import RegistryConfig
from schemas.config.retrain import RetrainConfig
from schemas.config.run import RunConfig
from schemas.records.references import DatasetReference, RetrainDecision, RetrainReason
from schemas.rules.profile import DataProfile
from tasks.engine.cache import locate
from tasks.registry.champion import ChampionData, read_champion_profile
from tasks.registry.lineage import settings_sha256
from tasks.registry.store import alias_holder, connect, store_errors
from tasks.registry.tags import EVALUATED_AT_TAG, SETTINGS_TAG
from tasks.sources.row_digests import ROW_DIGESTS, count_changes

if TYPE_CHECKING:
    import numpy
    from mlflow import MlflowClient

DIGESTS_ARTIFACT = f"data/{ROW_DIGESTS}"


@dataclass(frozen=True)
class EvaluatedVersion:
    """What is known of the version judged last."""

    version: int
    run_id: str
    settings_sha256: str
    judged_at: datetime
    digests: numpy.ndarray | None
    """uint64, shape (n_rows,), sorted; None where they were not kept."""


def find_evaluated(registry: RegistryConfig) -> EvaluatedVersion | None:
    """Find the version of a name that was judged last, promoted or refused.

    Args:
        registry: Name and aliases.

    Returns:
        The holder of the challenger's alias; None when nothing was judged yet.
    """
    client = connect()
    with store_errors():
        number = alias_holder(client, registry.name, registry.challenger_alias)
        if number is None:
            return None
        found = client.get_model_version(registry.name, str(number))
        judged_at = found.tags.get(EVALUATED_AT_TAG)
        run_id = str(found.run_id or "")
        return EvaluatedVersion(
            version=number,
            run_id=run_id,
            settings_sha256=found.tags.get(SETTINGS_TAG, ""),
            judged_at=datetime.fromisoformat(judged_at)
            if judged_at
            else datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            digests=_read_digests(client, run_id),
        )


def _read_digests(client: MlflowClient, run_id: str) -> numpy.ndarray | None:
    """Read the digests of the rows a version was made from."""
    import mlflow
    import numpy

    if not run_id:
        return None
    folder = DIGESTS_ARTIFACT.split("/")[0]
    if DIGESTS_ARTIFACT not in {file.path for file in client.list_artifacts(run_id, folder)}:
        return None
    path = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{DIGESTS_ARTIFACT}")
    return numpy.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False)


def weigh_reasons(
    config: RunConfig, dataset: DatasetReference, judged: EvaluatedVersion | None
) -> RetrainDecision:
    """Decide whether there is a reason to train, before the rows are looked at closely.

    Args:
        config: The resolved configuration.
        dataset: The rows now.
        judged: The version judged last.

    Returns:
        The decision; drift is weighed later, by `weigh_drift`, where fewer new rows came.
    """
    if judged is None:
        detail = f"first training of {config.registry.name}, on {dataset.n_rows:,} rows"
        return RetrainDecision(reason=RetrainReason.FIRST, detail=detail, n_rows=dataset.n_rows)
    n_new, n_gone = _count_changes(dataset, judged)
    age_days = (datetime.now(UTC) - judged.judged_at).total_seconds() / 86400
    reason = _reason(config.retrain, n_new, n_gone, age_days)
    detail = _changes(n_new, n_gone, judged.version)
    if judged.settings_sha256 != settings_sha256(config):
        reason = RetrainReason.SETTINGS
        detail = f"settings are not those of version {judged.version}; {detail}"
    elif reason is RetrainReason.AGE:
        detail += f", which is {age_days:.1f} days old, more than {config.retrain.max_age_days:g}"
    elif reason is RetrainReason.NOTHING and n_new is not None and max(n_new, n_gone or 0):
        detail += f"; fewer than retrain.min_new_rows={config.retrain.min_new_rows:,}"
    return RetrainDecision(
        reason=reason,
        detail=detail,
        version=judged.version,
        n_rows=dataset.n_rows,
        n_new_rows=n_new,
        n_gone_rows=n_gone,
        age_days=age_days,
    )


def _count_changes(
    dataset: DatasetReference, judged: EvaluatedVersion
) -> tuple[int | None, int | None]:
    import numpy

    if judged.digests is None:
        return None, None
    now = numpy.load(locate(dataset, ROW_DIGESTS), allow_pickle=False)
    return count_changes(judged.digests, now)


def _reason(
    retrain: RetrainConfig, n_new: int | None, n_gone: int | None, age_days: float
) -> RetrainReason:
    """Weigh changed rows and age; unchanged rows would give the same model, whatever its age."""
    if n_new is None or n_gone is None or max(n_new, n_gone) >= retrain.min_new_rows:
        return RetrainReason.NEW_ROWS
    is_old = retrain.max_age_days is not None and age_days > retrain.max_age_days
    return RetrainReason.AGE if is_old and max(n_new, n_gone) else RetrainReason.NOTHING


def _changes(n_new: int | None, n_gone: int | None, version: int) -> str:
    if n_new is None:
        return f"which rows version {version} was made from is not known"
    if not n_new and not n_gone:
        return f"the rows are those of version {version}"
    gone = f" and {n_gone:,} gone" if n_gone else ""
    return f"{n_new:,} new rows{gone} since version {version}"


def wants_drift(config: RunConfig, decision: RetrainDecision) -> bool:
    """Tell whether the rows are worth a closer look: too few are new, but they may differ much.

    Args:
        config: The resolved configuration.
        decision: What `weigh_reasons` decided.

    Returns:
        True when drift may still be a reason.
    """
    has_changes = bool(decision.n_new_rows or decision.n_gone_rows)
    return not decision.is_needed and has_changes and config.retrain.min_drift is not None


def weigh_drift(
    config: RunConfig, decision: RetrainDecision, judged: EvaluatedVersion, profile: DataProfile
) -> RetrainDecision:
    """Decide whether the rows have drifted far enough to train on.

    Args:
        config: The resolved configuration.
        decision: What `weigh_reasons` decided.
        judged: The version judged last.
        profile: Of the rows now.

    Returns:
        The decision, with the drift measured.
    """
    from schemas.rules.profile import drift

    reference = read_champion_profile(ChampionData(judged.version, judged.run_id))
    limit = config.retrain.min_drift
    if reference is None or limit is None:
        return decision
    feature, index = drift(profile, reference)
    if index < limit:
        return decision.model_copy(update={"drift": index})
    detail = (
        f"{feature} drifted from version {judged.version}: population stability index "
        f"{index:.3f}, at least {limit:g}"
    )
    return decision.model_copy(
        update={"reason": RetrainReason.DRIFT, "detail": detail, "drift": index}
    )
