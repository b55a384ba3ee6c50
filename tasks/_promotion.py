"""Making a version champion: checked, alone, and all aliases at once."""

from __future__ import annotations

import functools
import getpass
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.errors import ChampionChanged
from schemas.registry_config import RegistryConfig
from tasks._promotion_lease import promotion_lease
from tasks.registry.aliases import move_aliases, restore_interrupted
from tasks.registry.lineage import shorten
from tasks.registry.store import alias_holder
from tasks.registry.tags import PROMOTED_AT_TAG, PROMOTED_BY_TAG, PROMOTION_REASON_TAG
from tasks.release.reload.check import check_reload

if TYPE_CHECKING:
    from mlflow import MlflowClient

Guard = Callable[[int | None], None]
"""Called with the present champion before anything moves; raises when it must not."""


@dataclass(frozen=True)
class Request:
    """A version that is to become champion."""

    version: int
    who: str
    """A person's name, or the flow's."""
    why: str
    is_challenger: bool = False
    """It was judged last: it takes that alias too."""


@dataclass(frozen=True)
class Promoted:
    """Who is champion now, and who was."""

    version: int
    former: int | None
    """None when nobody was, or when the version was champion already."""


def expect_champion(name: str, expected: int | None) -> Guard:
    """Make a guard that lets a promotion go on only while the champion is whom it was decided on.

    Args:
        name: Registered model name.
        expected: Version the challenger was compared with; None: nobody.

    Returns:
        The guard; it raises `ChampionChanged`.
    """
    return functools.partial(_require_champion, name, expected)


def _require_champion(name: str, expected: int | None, holder: int | None) -> None:
    if holder != expected:
        raise ChampionChanged(
            "another promotion came first",
            where=f"models:/{name}",
            expected=_shown(expected),
            got=_shown(holder),
            fix="nothing: the run compares with the new champion and decides again",
        )


def _shown(version: int | None) -> str:
    return "no champion" if version is None else f"version {version} as champion"


def make_champion(
    client: MlflowClient, registry: RegistryConfig, request: Request, guard: Guard
) -> Promoted:
    """Give a version the champion's alias, and the former champion the alias `previous`.

    What the registry gives back is held against what was judged before any alias moves.

    Args:
        client: The store.
        registry: Name and aliases.
        request: The version, and who promotes it why.
        guard: Looks at the present champion first.

    Returns:
        Who is champion now, and who was.
    """
    name, version = registry.name, request.version
    with promotion_lease(client, name):
        restore_interrupted(client, name)
        holder = alias_holder(client, name, registry.alias)
        if holder == version:
            return Promoted(version, None)
        guard(holder)
        check_reload(name, version, registry.n_reload_prompts)
        moves = {registry.previous_alias: holder, registry.alias: version}
        if request.is_challenger:
            moves = {registry.challenger_alias: version, **moves}
        former = move_aliases(client, name, moves)
        try:
            note_promotion(client, name, request)
        except BaseException:
            move_aliases(client, name, former)
            raise
    return Promoted(version, holder)


def note_promotion(client: MlflowClient, name: str, request: Request) -> None:
    """Write on the version who promoted it, when and why.

    Args:
        client: The store.
        name: Registered model name.
        request: The version, who and why.
    """
    tags = {
        PROMOTED_BY_TAG: request.who,
        PROMOTED_AT_TAG: datetime.now(UTC).isoformat(timespec="seconds"),
        PROMOTION_REASON_TAG: shorten(request.why),
    }
    for tag, text in tags.items():
        client.set_model_version_tag(name, str(request.version), tag, text)


def user_name() -> str:
    """Name the person at the keyboard.

    Returns:
        The login name; unknown where the system has none.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
