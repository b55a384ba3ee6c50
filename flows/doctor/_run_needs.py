"""What `sft-flow doctor` looks at for one configuration: aliases, artefact store, disk."""

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

if TYPE_CHECKING:
    from mlflow import MlflowClient

HUB_SECONDS = 5.0
WEIGHT_BYTES = 4
"""A float32, the widest format a model is saved in."""
OPTIMISER_BYTES = 8
"""AdamW's two averages, which a checkpoint holds for each trained parameter."""
ADAPTER_FRACTION_PER_RANK = 0.0025
"""Parameters of a LoRA adapter on all linear maps: 3.6 % of SmolLM2-135M at r=16, less of others."""
OTHER_FRACTION = 0.1
"""Adapter, tokenizers, reports and MLflow's records, of everything; the demo takes 1.54 GiB in all,
its estimate is 1.65 GiB."""
NO_STORE = "no store yet: the first run makes it"


def check_aliases(registry: RegistryConfig) -> Finding:
    """Find out whether the aliases of a name stand on versions that can be loaded.

    Args:
        registry: Name and aliases.

    Returns:
        ok; a note where there is no champion yet; a problem where files are gone.
    """
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
            detail=f"{name}: no files behind {', '.join(gone)}",
            mend="the run that made the version puts them back when it is run again; or "
            f"`sft-flow rollback {name}`, `sft-flow promote {name}` another version",
        )
    standing = ", ".join(f"{alias} {number}" for alias, number in holders.items())
    if registry.alias not in holders:
        return Finding(
            topic=topic,
            health=Health.NOTE,
            detail=f"{name}: no {registry.alias} yet{f' ({standing})' if standing else ''}",
            mend=f"`sft-flow run`, or `sft-flow promote {name}` with a version",
        )
    return Finding(topic=topic, health=Health.OK, detail=f"{name}: {standing}")


def _has_files(client: MlflowClient, name: str, number: int) -> bool:
    from tasks.registry.store import has_model_files

    return has_model_files(client, str(client.get_model_version(name, str(number)).source))


def check_artifacts(registry: RegistryConfig) -> Finding:
    """Try to write where MLflow keeps weights and files.

    Args:
        registry: Names the experiment.

    Returns:
        ok, or what hinders.
    """
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
        return Finding(topic=topic, health=Health.OK, detail="the first run makes a folder for it")
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
            detail=f"{shown} cannot be written: {str(error).splitlines()[0]}",
            mend="mend permissions, credentials or address of the store; a run needs it to register",
        )
    return Finding(topic=topic, health=Health.OK, detail=f"{shown} can be written")


def _require_writable(folder: Path) -> None:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PermissionError(f"no right to write to {there}")


def write_and_delete(place: str) -> None:
    """Write a small file to a store, and delete it again.

    Args:
        place: Address of a folder of artefacts.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(place)
    with tempfile.TemporaryDirectory(prefix="sft-flow-doctor-") as scratch:
        probe = Path(scratch) / f"sft-flow-doctor-{uuid.uuid4().hex[:8]}"
        probe.write_text("ok", encoding="utf-8")
        repository.log_artifact(str(probe))
        repository.delete_artifacts(probe.name)


def check_disk(config: RunConfig) -> Finding:
    """Compare the free space with what a run of this configuration takes.

    Args:
        config: Its model and training count.

    Returns:
        ok, a note where the model's size is not known, or a problem.
    """
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
            detail=f"{gibibytes(free)} free; how large {source} is, is not known here",
            mend="look at its page; a run takes about three times its size in float32",
        )
    needed = needed_bytes(n_parameters, config.training)
    detail = f"a run of {source} takes up to {gibibytes(needed)}, {gibibytes(free)} free at {there}"
    if free >= needed:
        return Finding(topic=topic, health=Health.OK, detail=detail)
    return Finding(
        topic=topic,
        health=Health.PROBLEM,
        detail=detail,
        mend="free space, set SFT_HOME to another disk, or lower training.save_total_limit",
    )


def needed_bytes(n_parameters: int, training: TrainingConfig) -> int:
    """Estimate what a run adds to the disk at its peak, beside its data.

    Base, tuned and registered model stay; the registered one is written when the checkpoints are
    gone. Beside the last checkpoints there may be the best one and the one being written.

    Args:
        n_parameters: Of the base model.
        training: Method and number of checkpoints.

    Returns:
        2 x model + max(checkpoints, model), and a little for the rest.
    """
    model = WEIGHT_BYTES * n_parameters
    fraction = ADAPTER_FRACTION_PER_RANK * training.lora.r if training.has_adapter else 1.0
    checkpoint = round((WEIGHT_BYTES + OPTIMISER_BYTES) * fraction * n_parameters)
    peak = 2 * model + max((training.save_total_limit + 2) * checkpoint, model)
    return round((1 + OTHER_FRACTION) * peak)


def count_source_parameters(model: ModelConfig) -> int | None:
    """Count the parameters of a model without loading it.

    Args:
        model: What `model.source` names.

    Returns:
        Their number; None for a registered model, weights that are no safetensors, and a hub that
        does not answer.

    Raises:
        ModelSourceError: There is no such source.
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
