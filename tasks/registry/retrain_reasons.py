"""What has changed since the last evaluated version, and whether that is a reason to retrain."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from schemas.config.registry import RegistryConfig
from schemas.config.retrain import RetrainConfig
from schemas.config.run import RunConfig
from schemas.records.references import DatasetReference, RetrainDecision, RetrainReason
from schemas.rules.profile import DataProfile
from tasks.engine.cache import locate
from tasks.registry.aliases import settle_aliases
from tasks.registry.champion import ChampionData, read_champion_profile
from tasks.registry.lineage import settings_sha256
from tasks.registry.store import alias_holder, connect, has_artifact, store_errors
from tasks.registry.tags import EVALUATED_AT_TAG, SETTINGS_TAG
from tasks.sources.row_digests import ROW_DIGESTS, count_changes

if TYPE_CHECKING:
    import numpy
    from mlflow import MlflowClient
    from numpy.typing import NDArray

DIGESTS_ARTIFACT = f"data/{ROW_DIGESTS}"


@dataclass(frozen=True)
class EvaluatedVersion:
    """The last evaluated version."""

    version: int
    run_id: str
    settings_sha256: str
    evaluated_at: datetime
    digests: NDArray[numpy.uint64] | None
    """Shape (rows,), sorted; None if they were not stored."""


def find_evaluated(registry: RegistryConfig) -> EvaluatedVersion | None:
    """Find the last evaluated version, promoted or refused; None if there is none yet."""
    client = connect()
    with store_errors():
        settle_aliases(client, registry.name)
        number = alias_holder(client, registry.name, registry.challenger_alias)
        if number is None:
            return None
        found = client.get_model_version(registry.name, str(number))
        evaluated_at = found.tags.get(EVALUATED_AT_TAG)
        run_id = str(found.run_id or "")
        return EvaluatedVersion(
            version=number,
            run_id=run_id,
            settings_sha256=found.tags.get(SETTINGS_TAG, ""),
            evaluated_at=datetime.fromisoformat(evaluated_at)
            if evaluated_at
            else datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            digests=_read_digests(client, run_id),
        )


def _read_digests(client: MlflowClient, run_id: str) -> NDArray[numpy.uint64] | None:
    import mlflow
    import numpy

    if not run_id:
        return None
    if not has_artifact(client, run_id, DIGESTS_ARTIFACT):
        return None
    with TemporaryDirectory(prefix="sft-flow-") as scratch:
        address = f"runs:/{run_id}/{DIGESTS_ARTIFACT}"
        path = mlflow.artifacts.download_artifacts(address, dst_path=scratch)
        return numpy.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False)


def weigh_reasons(
    config: RunConfig, dataset: DatasetReference, evaluated: EvaluatedVersion | None
) -> RetrainDecision:
    """Decide whether there is a reason to train, before the rows are read in full.

    Args:
        config: The resolved configuration.
        dataset: The rows now.
        evaluated: The last evaluated version.

    Returns:
        The decision; `weigh_drift` adds drift later if there are too few new rows.
    """
    if evaluated is None:
        detail = f"first training of {config.registry.name}, on {dataset.n_rows:,} rows"
        return RetrainDecision(reason=RetrainReason.FIRST, detail=detail, n_rows=dataset.n_rows)
    n_new, n_gone = _count_changes(dataset, evaluated)
    age_days = (datetime.now(UTC) - evaluated.evaluated_at).total_seconds() / 86400
    reason = _reason(config.retrain, n_new, n_gone, age_days)
    detail = _changes(n_new, n_gone, evaluated.version)
    if evaluated.settings_sha256 != settings_sha256(config):
        reason = RetrainReason.SETTINGS
        detail = f"settings differ from version {evaluated.version}; {detail}"
    elif reason is RetrainReason.AGE:
        detail += f", which is {age_days:.1f} days old, more than {config.retrain.max_age_days:g}"
    elif reason is RetrainReason.NOTHING and n_new is not None and max(n_new, n_gone or 0):
        detail += f"; fewer than retrain.min_new_rows={config.retrain.min_new_rows:,}"
    return RetrainDecision(
        reason=reason,
        detail=detail,
        version=evaluated.version,
        n_rows=dataset.n_rows,
        n_new_rows=n_new,
        n_gone_rows=n_gone,
        age_days=age_days,
    )


def _count_changes(
    dataset: DatasetReference, evaluated: EvaluatedVersion
) -> tuple[int | None, int | None]:
    import numpy

    if evaluated.digests is None:
        return None, None
    now = numpy.load(locate(dataset, ROW_DIGESTS), allow_pickle=False)
    return count_changes(evaluated.digests, now)


def _reason(
    retrain: RetrainConfig, n_new: int | None, n_gone: int | None, age_days: float
) -> RetrainReason:
    """Evaluate changed rows and age; unchanged rows would give the same model, whatever its age."""
    if n_new is None or n_gone is None or max(n_new, n_gone) >= retrain.min_new_rows:
        return RetrainReason.NEW_ROWS
    is_old = retrain.max_age_days is not None and age_days > retrain.max_age_days
    return RetrainReason.AGE if is_old and max(n_new, n_gone) else RetrainReason.NOTHING


def _changes(n_new: int | None, n_gone: int | None, version: int) -> str:
    if n_new is None:
        return f"the rows that version {version} was trained from are unknown"
    if not n_new and not n_gone:
        return f"the rows are those of version {version}"
    gone = f" and {n_gone:,} gone" if n_gone else ""
    return f"{n_new:,} new rows{gone} since version {version}"


def wants_drift(config: RunConfig, decision: RetrainDecision) -> bool:
    """True if too few rows are new, but drift may still be a reason."""
    has_changes = bool(decision.n_new_rows or decision.n_gone_rows)
    return not decision.is_needed and has_changes and config.retrain.min_drift is not None


def weigh_drift(
    config: RunConfig, decision: RetrainDecision, evaluated: EvaluatedVersion, profile: DataProfile
) -> RetrainDecision:
    """Decide whether the rows have drifted enough to train, and add the drift to the decision."""
    from schemas.rules.profile import drift

    reference = read_champion_profile(ChampionData(evaluated.version, evaluated.run_id))
    limit = config.retrain.min_drift
    if reference is None or limit is None:
        return decision
    feature, index = drift(profile, reference)
    if index < limit:
        return decision.model_copy(update={"drift": index})
    detail = (
        f"{feature} drifted from version {evaluated.version}: population stability index "
        f"{index:.3f}, at least {limit:g}"
    )
    update = {"reason": RetrainReason.DRIFT, "detail": detail, "drift": index}
    return decision.model_copy(update=update)
