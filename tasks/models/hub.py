"""Models on the Hugging Face hub: which commit, which files, and clear words when it is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ModelSourceError, ServiceUnreachable

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
TIMEOUT_SECONDS = 20.0
OFFLINE_FIX = (
    "check the connection and try again; to work offline, fetch it once with `hf download {name}` "
    "and set HF_HUB_OFFLINE=1, or name a local folder"
)


@dataclass(frozen=True)
class HubModel:
    """A model on the hub at one commit."""

    name: str
    commit: str
    files: frozenset[str]


def find_hub_model(name: str, revision: str | None) -> HubModel:
    """Look a model up: on the hub, or in the local cache when `HF_HUB_OFFLINE` is set.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; None is `main`.

    Returns:
        The commit that the revision stands for, and its files.

    Raises:
        ModelSourceError: There is no such model or revision, or the cache has no copy.
        ServiceUnreachable: The hub does not answer.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _find_cached(name, revision)
    with hub_errors(name):
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
    files = frozenset(sibling.rfilename for sibling in info.siblings or ())
    return HubModel(name, str(info.sha), files)


def hub_commit(name: str, revision: str | None) -> str:
    """Name the commit a revision stands for; a full commit stands for itself.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; None is `main`.

    Returns:
        40 hexadecimal digits.
    """
    if revision and COMMIT.match(revision):
        return revision
    return find_hub_model(name, revision).commit


def _find_cached(name: str, revision: str | None) -> HubModel:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(found, str):
        raise ModelSourceError(
            "the model is not in the local hub cache, and HF_HUB_OFFLINE forbids to fetch it",
            where=f"model.source={name}" + (f", model.revision={revision}" if revision else ""),
            expected="a hub model that was downloaded before",
            got="no copy",
            fix=f"unset HF_HUB_OFFLINE and run `hf download {name}` once, or name a local folder",
        )
    snapshot = Path(found).parent
    files = (path for path in snapshot.rglob("*") if path.is_file())
    names = frozenset(path.relative_to(snapshot).as_posix() for path in files)
    return HubModel(name, snapshot.name, names)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn the hub client's errors into ours.

    Args:
        name: Hub id, for the message.

    Yields:
        Nothing.

    Raises:
        ModelSourceError: The hub says there is no such model, revision or permission.
        ServiceUnreachable: The hub does not answer, or answers with a server error.
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
    try:
        yield
    except refusals as error:
        raise ModelSourceError(
            "the hub has no such model, or you may not read it",
            where=f"model.source={name}",
            expected="hub id and revision of a model you have access to",
            got=(str(error).strip() or type(error).__name__).splitlines()[0],
            fix="correct model.source and model.revision, or log in with `hf auth login`",
        ) from error
    except (httpx.HTTPError, errors.HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise ServiceUnreachable(
            "the Hugging Face hub cannot be reached",
            where=f"model.source={name}",
            expected="an answer from the hub",
            got=": ".join((type(error).__name__, *str(error).strip().splitlines()[:1])),
            fix=OFFLINE_FIX.format(name=name),
        ) from error


def hub_file(model: HubModel, name: str) -> Path:
    """Fetch one file of a model, or find it in the cache.

    Args:
        model: The model.
        name: One of its files.

    Returns:
        Where it lies in the local cache.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(model.name):
        return Path(hf_hub_download(model.name, name, revision=model.commit))
