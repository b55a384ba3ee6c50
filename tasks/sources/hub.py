"""The Hugging Face Hub, for datasets and models: ids, commits, the local cache, and errors."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from schemas.errors import DataSourceError, ModelSourceError, ServiceUnreachable, SftFlowError
from tasks.engine.proxies import check_proxies, is_untrusted

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

T = TypeVar("T")

LOGGER = logging.getLogger(__name__)
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_SECONDS = 20.0
RATE_LIMITED, TIMED_OUT = 429, 408
"""Client errors that a later request may not get."""
PATIENCE_SECONDS = 330.0
"""The Hub counts requests in windows of five minutes."""


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


def ask_hub(ask: Callable[[], T], name: str, kind: HubKind = HubKind.MODEL) -> T:
    """Ask the Hub; when it names a time to wait, as it does where it limits the rate, ask again after it.

    Args:
        ask: Uses the Hub's client, or a library that does.
        name: Hub id.
        kind: Model or dataset.

    Returns:
        What `ask` returns.

    Raises:
        ServiceUnreachable: The Hub does not answer, also after `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with hub_errors(name, kind):
                return ask()
        except ServiceUnreachable as error:
            wait = _seconds_to_wait(error)
            if wait is None or time.monotonic() + wait > deadline:
                raise
            LOGGER.warning("%s; asking again in %d s", error.what, wait)
            time.sleep(wait)


def fetch_info(
    name: str, revision: str | None, kind: HubKind, *, is_patient: bool = True
) -> ModelInfo | DatasetInfo:
    """Ask the Hub for the commit and the files of a revision; None is `main`.

    Args:
        name: Hub id.
        revision: Branch, tag or commit.
        kind: Model or dataset.
        is_patient: Wait where the Hub limits the rate.

    Returns:
        What the Hub knows.
    """
    from huggingface_hub import HfApi

    check_proxies()
    ask = HfApi().model_info if kind is HubKind.MODEL else HfApi().dataset_info
    if is_patient:
        return ask_hub(lambda: ask(name, revision=revision, timeout=TIMEOUT_SECONDS), name, kind)
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
    """Turn errors of the Hub's client into those of `schemas.errors`, also where a library wrapped them.

    ServiceUnreachable: the Hub does not answer, limits the rate, or has an error of its own. A token,
    an id or a revision that it refuses is a ModelSourceError or a DataSourceError.

    Args:
        name: Hub id.
        kind: Model or dataset.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise _hub_fault(cause, name, kind) from cause


def _cause(error: BaseException) -> BaseException | None:
    """Return the error of the Hub's client that led to an error; None if there is none."""
    import httpx
    from huggingface_hub import errors

    one: BaseException | None = error
    while one is not None:
        is_answer = isinstance(one, (errors.HfHubHTTPError, httpx.HTTPError))
        is_file = isinstance(one, errors.EntryNotFoundError)  # which a library may do without
        if is_answer and (one is error or not is_file):
            return one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    direct = (errors.EntryNotFoundError, errors.HFValidationError, ConnectionError, TimeoutError)
    is_ours = isinstance(error, SftFlowError)
    return error if isinstance(error, direct) and not is_ours else None


def _hub_fault(error: BaseException, name: str, kind: HubKind) -> SftFlowError:
    """Make the error for what the Hub or the connection answered."""
    from huggingface_hub import errors

    where = f"{kind.section}.source={name}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    lines = str(error).strip().splitlines()[:1]
    got = ": ".join((type(error).__name__, *lines))
    offline = (
        f"to work offline, run `{kind.download(name)}` once and set HF_HUB_OFFLINE=1, or name a "
        "local folder"
    )
    if status == RATE_LIMITED:
        return ServiceUnreachable(
            "the Hugging Face Hub limits the rate of requests from here",
            where=where,
            expected="fewer requests in five minutes from this address or account",
            got=got,
            fix=f"try again in five minutes; `hf auth login` raises the limit; {offline}",
        )
    if isinstance(error, errors.GatedRepoError):
        what = f"{kind} {name} is only for users who accepted its conditions"
        fix = f"accept them at {_page(name, kind)}, then log in with `hf auth login`"
    elif status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        what = "the Hugging Face Hub does not accept the token: it is wrong or has expired"
        fix = "log in again with `hf auth login`, or set HF_TOKEN to a valid token, or unset it"
    elif status == 403:
        what = f"the token does not permit to read {kind} {name}"
        fix = "log in with `hf auth login` and a token that may read it"
    elif isinstance(error, (errors.EntryNotFoundError, errors.HFValidationError)) or (
        status is not None and 400 <= status < 500 and status != TIMED_OUT
    ):
        what = f"{kind} {name} was not found on the Hub, or you do not have access to it"
        fix = (
            f"correct {kind.section}.source and {kind.section}.revision, or log in with "
            "`hf auth login`"
        )
    else:
        next_step = "check the connection and try again"
        if is_untrusted(got):
            next_step = "set SSL_CERT_FILE to a file with the certificate of your authority"
        return ServiceUnreachable(
            "the Hugging Face Hub cannot be reached",
            where=where,
            expected="an answer from the Hub",
            got=got,
            fix=f"{next_step}; {offline}",
        )
    expected = f"id and revision of a {kind} you have access to"
    return kind.error(what, where=where, expected=expected, got=(lines or [got])[0], fix=fix)


def _page(name: str, kind: HubKind) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'' if kind is HubKind.MODEL else 'datasets/'}{name}"


def _seconds_to_wait(error: ServiceUnreachable) -> int | None:
    """Return the seconds after which the Hub wants to be asked again; None if it names none."""
    from huggingface_hub.utils import parse_ratelimit_headers

    response = getattr(error.__cause__, "response", None)
    if response is None:
        return None
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return int(text) + 1
    with suppress(ValueError):  # seconds or, as mirrors and proxies send it, a time
        wait = parsedate_to_datetime(text) - datetime.now(UTC)
        return max(int(wait.total_seconds()), 0) + 1
    return None
