"""The flows of a person who promotes a version or takes a promotion back."""

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
    """Make a version champion: checked against what was judged, all aliases at once.

    Args:
        registry: Name and aliases.
        version: The version; none takes the challenger, the version judged last.
        reason: Kept with the version.
        is_forced: Promote although the gates refused the version or never saw it.

    Returns:
        What was done.
    """
    done = promote_by_hand(registry, version, reason, is_forced=is_forced)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done


@flow(name="roll-back", flow_run_name="{registry.name}", log_prints=False)
def roll_back(
    registry: RegistryConfig = RegistryConfig(),  # noqa: B008 - frozen
    reason: str = "",
) -> HandPromotion:
    """Make the former champion champion again; the present one becomes the former.

    Args:
        registry: Name and aliases.
        reason: Kept with the version.

    Returns:
        What was done.
    """
    done = roll_back_by_hand(registry, reason)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done
