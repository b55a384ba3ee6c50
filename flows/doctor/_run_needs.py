"""Checks of `sft-flow doctor` for one configuration: aliases, artifact store, disk, server."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from flows.doctor.finding import Finding, Health
from schemas.config.registry import RegistryConfig
from schemas.config.run import ModelConfig, RunConfig
from schemas.config.training import TrainingConfig
from schemas.errors import ServiceUnreachable, SftFlowError
from tasks.engine.home import artifact_location, has_store, tracking_uri, work_directory
from tasks.engine.wording import gibibytes
from tasks.evaluation.server import require_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

HUB_SECONDS = 5.0
WEIGHT_BYTES = 4
"""float32, the widest format a model is saved in."""
OPTIMISER_BYTES = 8
"""AdamW's two averages per trained parameter, in a checkpoint."""
ADAPTER_FRACTION_PER_RANK = 0.0025
"""Parameters of a LoRA adapter on all linear layers: 3.6 % of SmolLM2-135M at r=16, less in others."""
OTHER_FRACTION = 0.1
"""Share of adapter, tokenizers, reports and MLflow's records. The demo takes 1.54 GiB, its estimate is
1.65 GiB."""
NO_STORE = "no store yet: the first run creates it"


def check_aliases(registry: RegistryConfig) -> Finding:
    """Check that the aliases of a name point to versions whose files exist."""
    topic, name = "aliases", registry.name
    if not has_store():
        return Finding(topic=topic, health=Health.OK, detail=f"{name}: {NO_STORE}")
    from tasks.registry.store import alias_holder, connect, store_errors

    try:
        client = connect()
        with store_errors():
            names = (registry.alias, registry.challenger_alias, registry.previous_alias)
            found = {alias: alias_holder(client, name, alias) for alias in names}
            holders = {alias: number for alias, number in found.items() if number is not None}
            gone = [
                f"{alias} (version {number})"
                for alias, number in holders.items()
                if not _has_files(client, name, number)
            ]
    except SftFlowError as error:
        return Finding(topic=topic, health=Health.NOTE, detail=error.what, mend=error.fix)
    if gone:
        return Finding(
            topic=topic,
            health=Health.PROBLEM,
            detail=f"{name}: files are missing for {', '.join(gone)}",
            mend="run the configuration that made the version again to restore them; or "
            f"`sft-flow rollback {name}`, or `sft-flow promote {name}` with another version",
        )
    listed = ", ".join(f"{alias} {number}" for alias, number in holders.items())
    if registry.alias not in holders:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"{name}: no {registry.alias} yet{f' ({listed})' if listed else ''}",
            mend=f"`sft-flow run`, or `sft-flow promote {name}` with a version",
        )
    return Finding(topic=topic, health=Health.OK, detail=f"{name}: {listed}")


def _has_files(client: MlflowClient, name: str, number: int) -> bool:
    from tasks.registry.store import has_model_files

    return has_model_files(client, str(client.get_model_version(name, str(number)).source))


def check_artifacts(registry: RegistryConfig) -> Finding:
    """Check that MLflow's artifact store is writable."""
    topic = "artefact store"
    if not has_store():
        return Finding(topic=topic, health=Health.OK, detail=NO_STORE)
    from mlflow.exceptions import MlflowException
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    from tasks.engine.redaction import without_secrets
    from tasks.registry.store import connect

    try:
        client = connect()
    except SftFlowError as error:
        return Finding(topic=topic, health=Health.NOTE, detail=error.what, mend=error.fix)
    found = client.get_experiment_by_name(registry.experiment)
    place = str(found.artifact_location) if found else artifact_location()
    if place is None and tracking_uri().startswith(("http://", "https://")):
        place = str(client.get_experiment("0").artifact_location)  # of the same server
    if place is None:
        return Finding(
            topic=topic, health=Health.OK, detail="the first run creates a folder for it"
        )
    shown = without_secrets(place)
    try:
        if is_local_uri(place):
            _require_writable(Path(local_file_uri_to_path(place)))
        else:
            write_and_delete(place)
    except (OSError, MlflowException, ImportError) as error:
        return Finding(
            topic=topic,
            health=Health.PROBLEM,
            detail=f"{shown} is not writable: {str(error).splitlines()[0]}",
            mend="fix permissions, credentials or address of the store; a run needs it to register",
        )
    return Finding(topic=topic, health=Health.OK, detail=f"{shown} is writable")


def _require_writable(folder: Path) -> None:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PermissionError(f"no permission to write to {there}")


def write_and_delete(place: str) -> None:
    """Write a small file to an artifact store, and delete it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(place)
    with tempfile.TemporaryDirectory(prefix="sft-flow-doctor-") as scratch:
        probe = Path(scratch) / f"sft-flow-doctor-{uuid.uuid4().hex[:8]}"
        probe.write_text("ok", encoding="utf-8")
        repository.log_artifact(str(probe))
        repository.delete_artifacts(probe.name)


def check_disk(config: RunConfig) -> Finding:
    """Compare the free disk space with what a run of this configuration needs."""
    topic = "disk"
    folder = work_directory()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    n_parameters = count_source_parameters(config.model)
    source = config.model.source
    if n_parameters is None:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"{gibibytes(free)} free; the size of {source} is unknown",
            mend="look up the model's size; a run needs about three times its size in float32",
        )
    needed = needed_bytes(n_parameters, config.training)
    detail = f"a run of {source} needs up to {gibibytes(needed)}, {gibibytes(free)} free at {there}"
    if free >= needed:
        return Finding(topic=topic, health=Health.OK, detail=detail)
    return Finding(
        topic=topic,
        health=Health.PROBLEM,
        detail=detail,
        mend="free space, set SFT_HOME to another disk, or lower training.save_total_limit",
    )


def check_evaluation_server(config: RunConfig) -> Finding:
    """Check that the program of the evaluation server's command exists; a run checks it too."""
    detail = require_server(config.evaluation.server) or "none: transformers generates the answers"
    return Finding(topic="evaluation server", health=Health.OK, detail=detail)


def needed_bytes(n_parameters: int, training: TrainingConfig) -> int:
    """Estimate the peak disk space of a run, without its data.

    Base, tuned and registered model are kept; the registered one is written after the checkpoints
    are removed. In addition to the last checkpoints, there may be the best one and a partial one.

    Args:
        n_parameters: Parameters of the base model.
        training: Method and number of checkpoints.

    Returns:
        Bytes: (2 x model + max(checkpoints, model)) x (1 + `OTHER_FRACTION`).
    """
    model = WEIGHT_BYTES * n_parameters
    fraction = ADAPTER_FRACTION_PER_RANK * training.lora.r if training.has_adapter else 1.0
    checkpoint = round((WEIGHT_BYTES + OPTIMISER_BYTES) * fraction * n_parameters)
    peak = 2 * model + max((training.save_total_limit + 2) * checkpoint, model)
    return round((1 + OTHER_FRACTION) * peak)


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
    from tasks.models.shape import count_parameters
    from tasks.models.source import SourceKind, resolve_source

    source = resolve_source(model.source)
    if source.kind is SourceKind.FOLDER:
        return count_parameters(source.path) or None
    if source.kind in (SourceKind.BUNDLED, SourceKind.GGUF):
        from gguf import GGUFReader

        return sum(int(tensor.n_elements) for tensor in GGUFReader(source.path).tensors)
    return _ask_hub(source.name, model.revision) if source.kind is SourceKind.HUB else None


def _ask_hub(name: str, revision: str | None) -> int | None:
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    from tasks.models.shape import count_parameters
    from tasks.sources.hub import hub_errors

    if constants.HF_HUB_OFFLINE:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
        return (count_parameters(Path(config).parent) or None) if isinstance(config, str) else None
    try:
        with hub_errors(name):
            facts = HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS).safetensors
    except ServiceUnreachable:
        return None
    return facts.total if facts else None
