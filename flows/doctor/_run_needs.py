"""Checks of `sft-flow doctor` for one configuration: aliases, artifact store, disk, server."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flows.doctor.finding import Finding, Health
from schemas.config.registry import RegistryConfig
from schemas.config.run import ModelConfig, RunConfig
from schemas.errors import DataSourceError, ModelSourceError, ServiceUnreachable, SftFlowError
from tasks.engine.home import has_store, work_directory
from tasks.engine.proxies import check_proxies
from tasks.engine.wording import gibibytes
from tasks.evaluation.server import require_server
from tasks.training.plan.space import needed_bytes, require_temporary_space

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.sources.hub import HubKind

HUB_SECONDS = 5.0
NO_STORE = "no store yet: the first run creates it"


def check_aliases(registry: RegistryConfig) -> Finding:
    """Check that the aliases of a name point to versions whose files exist."""
    topic, name = "aliases", registry.name
    if not has_store():
        return Finding(topic=topic, health=Health.OK, detail=f"{name}: {NO_STORE}")
    from tasks.registry.aliases import settle_aliases
    from tasks.registry.store import alias_holder, connect, store_errors

    try:
        client = connect()
        with store_errors():
            settle_aliases(client, name)
            names = (registry.alias, registry.challenger_alias, registry.previous_alias)
            found = {alias: alias_holder(client, name, alias) for alias in names}
            holders = {alias: number for alias, number in found.items() if number is not None}
            gone = [
                f"{alias} (version {number})"
                for alias, number in holders.items()
                if not _has_files(client, name, number)
                and not (alias == registry.challenger_alias and _was_pruned(client, name, number))
            ]
    except SftFlowError as error:
        return Finding(topic=topic, health=Health.NOTE, detail=error.what, fix=error.fix)
    if gone:
        return Finding(
            topic=topic,
            health=Health.PROBLEM,
            detail=f"{name}: files are missing for {', '.join(gone)}",
            fix="run the configuration that made the version again to restore them; or "
            f"`sft-flow rollback {name}`, or `sft-flow promote {name}` with another version",
        )
    listed = ", ".join(f"{alias} {number}" for alias, number in holders.items())
    if registry.alias not in holders:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"{name}: no {registry.alias} yet{f' ({listed})' if listed else ''}",
            fix=f"`sft-flow run`, or `sft-flow promote {name}` with a version",
        )
    return Finding(topic=topic, health=Health.OK, detail=f"{name}: {listed}")


def _was_pruned(client: MlflowClient, name: str, number: int) -> bool:
    """Return whether a version lost its weights because newer ones were not promoted either."""
    from tasks.registry.tags import WEIGHTS_TAG

    return WEIGHTS_TAG in client.get_model_version(name, str(number)).tags


def _has_files(client: MlflowClient, name: str, number: int) -> bool:
    from tasks.registry.store import has_model_files

    return has_model_files(client, str(client.get_model_version(name, str(number)).source))


def check_artifacts(registry: RegistryConfig) -> Finding:
    """Check that MLflow's store and its artifact store can be written, as a run does."""
    topic = "artefact store"
    if not has_store():
        return Finding(topic=topic, health=Health.OK, detail=NO_STORE)
    from tasks.engine.redaction import without_secrets
    from tasks.registry.write_check import check_default_root, check_writes

    try:
        place = check_writes(registry, is_training=False) or check_default_root()
    except ServiceUnreachable as error:
        return Finding(topic=topic, health=Health.NOTE, detail=error.what, fix=error.fix)
    except SftFlowError as error:
        detail = f"{error.where}: {error.what}: {(error.got.splitlines() or [''])[0]}"
        return Finding(topic=topic, health=Health.PROBLEM, detail=detail, fix=error.fix)
    if not place:
        detail = "the first run creates a folder for it"
        return Finding(topic=topic, health=Health.OK, detail=detail)
    return Finding(topic=topic, health=Health.OK, detail=f"{without_secrets(place)} is writable")


def check_disk(config: RunConfig) -> Finding:
    """Compare the free disk space with what a run of this configuration needs."""
    topic = "disk"
    folder = work_directory()
    there = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    free = shutil.disk_usage(there).free
    n_parameters = count_source_parameters(config.model)
    source = config.model.source
    if n_parameters is None:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"{gibibytes(free)} free; the size of {source} is unknown",
            fix="look up the model's size; a run needs about three times its size in float32",
        )
    needed = needed_bytes(n_parameters, config.training)
    detail = f"a run of {source} needs up to {gibibytes(needed)}, {gibibytes(free)} free at {there}"
    require_temporary_space(n_parameters)
    if free >= needed:
        return Finding(topic=topic, health=Health.OK, detail=detail)
    return Finding(
        topic=topic,
        health=Health.PROBLEM,
        detail=detail,
        fix="free space, set SFT_HOME to another disk, or lower training.save_total_limit",
    )


def check_evaluation_server(config: RunConfig) -> Finding:
    """Check that the program of the evaluation server's command exists; a run checks it too."""
    detail = require_server(config.evaluation.server) or "none: transformers generates the answers"
    return Finding(topic="evaluation server", health=Health.OK, detail=detail)


def count_source_parameters(model: ModelConfig) -> int | None:
    """Count the parameters of a model without loading it.

    Args:
        model: The model section of the configuration.

    Returns:
        Number of parameters; None for a registered model, weights that are not safetensors, or
        if the Hub does not answer.

    Raises:
        ModelSourceError: The source does not exist.
    """
    from tasks.models.gguf import count_gguf_parameters
    from tasks.models.shape import count_parameters
    from tasks.models.source import SourceKind, resolve_source

    source = resolve_source(model.source)
    if source.kind is SourceKind.FOLDER:
        return count_parameters(source.path) or None
    if source.kind in (SourceKind.BUNDLED, SourceKind.GGUF):
        return count_gguf_parameters(source.path)
    return _ask_hub(source.name, model.revision) if source.kind is SourceKind.HUB else None


def _ask_hub(name: str, revision: str | None) -> int | None:
    from huggingface_hub import ModelInfo, try_to_load_from_cache

    from tasks.models.shape import count_parameters
    from tasks.sources.hub import HubKind, fetch_info, is_offline

    if is_offline():
        config = try_to_load_from_cache(name, "config.json", revision=revision)
        return (count_parameters(Path(config).parent) or None) if isinstance(config, str) else None
    try:
        info = fetch_info(name, revision, HubKind.MODEL, is_patient=False)
    except ServiceUnreachable:
        return None
    return info.safetensors.total if isinstance(info, ModelInfo) and info.safetensors else None


def check_hub(config: RunConfig) -> Finding:
    """Ask the Hub for the model and the data of a configuration, as a run does; else whether it answers."""
    from tasks.sources.hub import fetch_info, is_offline

    topic = "hub"
    if is_offline():
        return Finding(topic=topic, health=Health.NOTE, detail="offline (HF_HUB_OFFLINE is set)")
    try:
        found = {
            f"{kind} {name}": str(fetch_info(name, revision, kind, is_patient=False).sha)[:8]
            for name, revision, kind in _on_hub(config)
        }
    except ServiceUnreachable as error:
        detail = f"{error.where}: {error.what} ({error.got})"
        return Finding(topic=topic, health=Health.PROBLEM, detail=detail, fix=error.fix)
    if not found:
        return _reach_hub()
    detail = ", ".join(f"{what} at {commit}" for what, commit in found.items())
    return Finding(topic=topic, health=Health.OK, detail=detail)


def _on_hub(config: RunConfig) -> list[tuple[str, str | None, HubKind]]:
    """Return id, revision and kind of what a run reads from the Hub; other checks report wrong names."""
    from tasks.models import source as models
    from tasks.sources import source as data
    from tasks.sources.hub import HubKind

    found: list[tuple[str, str | None, HubKind]] = []
    with contextlib.suppress(ModelSourceError):
        if models.resolve_source(config.model.source).kind is models.SourceKind.HUB:
            found.append((config.model.source, config.model.revision, HubKind.MODEL))
    origin = config.data.origin
    for one in origin.values() if isinstance(origin, dict) else (origin,):
        with contextlib.suppress(DataSourceError):
            if data.resolve_source(one).kind is data.SourceKind.HUB:
                found.append((one.source, one.revision, HubKind.DATASET))
    return found


def _reach_hub() -> Finding:
    """Report whether the Hub answers; only a note, because this configuration does not need it."""
    import httpx
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    check_proxies()
    try:
        status = get_session().get(constants.ENDPOINT, timeout=HUB_SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(
            topic="hub",
            health=Health.NOTE,
            detail=f"{constants.ENDPOINT} cannot be reached ({error}); this configuration does not use it",
            fix="set HF_HUB_OFFLINE=1 to use the Hub's cache",
        )
    return Finding(topic="hub", health=Health.OK, detail=f"{constants.ENDPOINT} answers {status}")
