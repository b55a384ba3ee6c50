"""Models on the Hugging Face Hub: their commit and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.sources.hub import HubKind, ask_hub, fetch_info, is_offline, not_cached


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub at one commit."""

    name: str
    commit: str
    files: frozenset[str]


def find_hub_model(name: str, revision: str | None) -> HubModel:
    """Find the commit and the files of a revision, in the local cache if HF_HUB_OFFLINE is set."""
    if is_offline():
        return _find_cached(name, revision)
    info = fetch_info(name, revision, HubKind.MODEL)
    files = frozenset(sibling.rfilename for sibling in info.siblings or ())
    return HubModel(name, str(info.sha), files)


def _find_cached(name: str, revision: str | None) -> HubModel:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(found, str):
        raise not_cached(name, revision, HubKind.MODEL)
    snapshot = Path(found).parent
    files = (path for path in snapshot.rglob("*") if path.is_file())
    names = frozenset(path.relative_to(snapshot).as_posix() for path in files)
    return HubModel(name, snapshot.name, names)


def hub_file(model: HubModel, name: str) -> Path:
    """Fetch one file of a model, or find it in the cache."""
    from huggingface_hub import hf_hub_download

    return Path(
        ask_hub(lambda: hf_hub_download(model.name, name, revision=model.commit), model.name)
    )
