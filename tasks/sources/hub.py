"""The Hugging Face Hub, for datasets and models: ids, commits, the local cache, and errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import DataSourceError, ModelSourceError, ServiceUnreachable

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_SECONDS = 20.0
RETRY_STATUSES = (408, 429)
"""Client errors that a later request may not get."""


class HubKind(StrEnum):
    """What an id names."""

    MODEL = "model"
    DATASET = "dataset"

    @property
    def section(self) -> str:
        """Section of the configuration with the keys `source` and `revision`."""
        return "model" if self is HubKind.MODEL else "data.source"

    @property
    def error(self) -> type[ModelSourceError | DataSourceError]:
        """Error of a wrong id or revision."""
        return ModelSourceError if self is HubKind.MODEL else DataSourceError

    def download(self, name: str) -> str:
        """Return the command that fetches a copy into the local cache."""
        return f"hf download {'' if self is HubKind.MODEL else '--repo-type dataset '}{name}"


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_info(name: str, revision: str | None, kind: HubKind) -> ModelInfo | DatasetInfo:
    """Ask the Hub for the commit and the files of a revision; None is `main`."""
    from huggingface_hub import HfApi

    ask = HfApi().model_info if kind is HubKind.MODEL else HfApi().dataset_info
    with hub_errors(name, kind):
        return ask(name, revision=revision, timeout=TIMEOUT_SECONDS)


def hub_commit(name: str, revision: str | None, kind: HubKind = HubKind.MODEL) -> str:
    """Find the commit that a revision names now; a full commit names itself.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; None is `main`.
        kind: Model or dataset.

    Returns:
        40 hexadecimal digits; offline those in the cache. Of a dataset that the Hub's cache lacks
        the revision, as `datasets` may have a copy of its own.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    if not is_offline():
        return str(fetch_info(name, revision, kind).sha)
    reference = cache_folder(name, kind) / "refs" / (revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    if kind is HubKind.MODEL:
        raise not_cached(name, revision, kind)
    return revision or "main"


def cache_folder(name: str, kind: HubKind) -> Path:
    """Return the folder of the local Hub cache that has `refs` and `snapshots` of an id."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"


def not_cached(
    name: str, revision: str | None, kind: HubKind
) -> ModelSourceError | DataSourceError:
    """Make the error of a copy that is missing while HF_HUB_OFFLINE is set."""
    revised = f", {kind.section}.revision={revision}" if revision else ""
    return kind.error(
        f"{kind} {name} is not in the local Hugging Face cache, and HF_HUB_OFFLINE is set",
        where=f"{kind.section}.source={name}{revised}",
        expected=f"a copy in {cache_folder(name, kind)}",
        got="no copy",
        fix=f"unset HF_HUB_OFFLINE; or run `{kind.download(name)}` on a machine with a connection "
        "and set HF_HOME to a copy of its cache; or name a local folder",
    )


@contextmanager
def hub_errors(name: str, kind: HubKind = HubKind.MODEL) -> Iterator[None]:
    """Turn errors of the Hub's client into those of `schemas.errors`.

    Args:
        name: Hub id.
        kind: Model or dataset.

    Yields:
        Nothing.

    Raises:
        ServiceUnreachable: The Hub does not answer, or answers with a server error. An id or a
            revision that it does not show is a ModelSourceError or a DataSourceError.
    """
    import httpx
    from huggingface_hub import errors

    refusals = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.DisabledRepoError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    )
    where = f"{kind.section}.source={name}"
    try:
        yield
    except (
        *refusals,
        httpx.HTTPError,
        errors.HfHubHTTPError,
        ConnectionError,
        TimeoutError,
    ) as error:
        lines = str(error).strip().splitlines()[:1]
        status = getattr(getattr(error, "response", None), "status_code", 500)
        if isinstance(error, refusals) or (400 <= status < 500 and status not in RETRY_STATUSES):
            raise kind.error(
                f"{kind} {name} was not found on the Hub, or you do not have access to it",
                where=where,
                expected=f"id and revision of a {kind} you have access to",
                got=(lines or [type(error).__name__])[0],
                fix=f"correct {kind.section}.source and {kind.section}.revision, or log in with "
                "`hf auth login`",
            ) from error
        raise ServiceUnreachable(
            "the Hugging Face Hub cannot be reached",
            where=where,
            expected="an answer from the Hub",
            got=": ".join((type(error).__name__, *lines)),
            fix=f"check the connection and try again; to work offline, run `{kind.download(name)}` "
            "once and set HF_HUB_OFFLINE=1, or name a local folder",
        ) from error
