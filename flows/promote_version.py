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
    person: str = "",
) -> HandPromotion:
    """Make a version champion, after checking that it still gives the evaluated answers.

    Args:
        registry: Name and aliases.
        version: Version number; None for the challenger, the last evaluated version.
        reason: Recorded on the version.
        is_forced: Promote even if the gates or a reviewer refused the version or no gate ran; requires
            a reason.
        person: Who asks for it, recorded on the version; empty for the account that runs the flow.

    Returns:
        The new and the previous champion.
    """
    done = promote_by_hand(registry, version, reason, is_forced=is_forced, person=person)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done


@flow(name="roll-back", flow_run_name="{registry.name}", log_prints=False)
def roll_back(
    registry: RegistryConfig = RegistryConfig(),  # noqa: B008 - frozen
    reason: str = "",
    person: str = "",
) -> HandPromotion:
    """Restore the previous champion; the current one becomes the previous.

    Args:
        registry: Name and aliases.
        reason: Recorded on the version.
        person: Who asks for it, recorded on the version; empty for the account that runs the flow.

    Returns:
        The new and the previous champion.
    """
    done = roll_back_by_hand(registry, reason, person=person)
    announce_promotion(registry, done.version, done.former_version, done.reason)
    return done
