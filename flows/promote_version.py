"""Flows `promote-model` and `roll-back`: promotion by hand."""

from __future__ import annotations

from prefect import flow

from schemas.config.registry import RegistryConfig
from tasks.release.by_hand import HandPromotion, promote_by_hand
from tasks.release.by_hand import roll_back as roll_back_by_hand
from tasks.report.announcements import announce_promotion


@flow(name="promote-model", flow_run_name="{registry.name}", log_prints=False)
def promote_version(
    registry: RegistryConfig = RegistryConfig(),  # noqa: B008 - frozen
    version: int | None = None,
    reason: str = "",
    is_forced: bool = False,
) -> HandPromotion:
    """Make a version champion, after checking that it still gives the evaluated answers.

    Args:
        registry: Name and aliases.
        version: Version number; None for the challenger, the last evaluated version.
        reason: Recorded on the version.
        is_forced: Promote even if the gates refused the version or did not run.

    Returns:
        The new and the previous champion.
    """
    done = promote_by_hand(registry, version, reason, is_forced=is_forced)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done


@flow(name="roll-back", flow_run_name="{registry.name}", log_prints=False)
def roll_back(
    registry: RegistryConfig = RegistryConfig(),  # noqa: B008 - frozen
    reason: str = "",
) -> HandPromotion:
    """Restore the previous champion; the current one becomes the previous.

    Args:
        registry: Name and aliases.
        reason: Recorded on the version.

    Returns:
        The new and the previous champion.
    """
    done = roll_back_by_hand(registry, reason)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done
