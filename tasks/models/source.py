"""Find and load a model: bundled, folder, .gguf file, hub or MLflow registry."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from tasks.engine.keys import file_sha256
from tasks.models.bundled import BUNDLED_NAME, bundled_file
from tasks.models.files import (
    check_files,
    file_names,
    folder_sha256,
    refuse_custom_code,
    unloadable,
)
from tasks.models.gguf import load_gguf
from tasks.models.hub import HubModel, find_hub_model, hub_file
from tasks.registry.versions import (
    REGISTRY_SCHEME,
    fetch_registered,
    find_champion,
    find_registered,
)
from tasks.sources.hub import HUB_ID, hub_commit, hub_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SOURCE_KINDS = (
    f"{BUNDLED_NAME}, a model folder, a .gguf file, a hub id (owner/name), "
    "models:/name@alias or models:/name/version"
)


class SourceKind(StrEnum):
    """Kind of a model source."""

    BUNDLED = "bundled"
    FOLDER = "folder"
    GGUF = "gguf"
    HUB = "hub"
    REGISTRY = "registry"


@dataclass(frozen=True)
class ModelSource:
    """A model source; `path` is set for all that are on disk."""

    kind: SourceKind
    name: str
    path: Path = Path()


def resolve_source(source: str) -> ModelSource:
    """Find out the kind of a source.

    Args:
        source: `model.source` of the configuration.

    Returns:
        Its kind, and its path where it has one.

    Raises:
        ModelSourceError: It is none of the known kinds, or a path that does not exist.
    """
    if source == BUNDLED_NAME:
        return ModelSource(SourceKind.BUNDLED, source, bundled_file())
    if source.startswith(REGISTRY_SCHEME):
        return ModelSource(SourceKind.REGISTRY, source)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return ModelSource(SourceKind.GGUF, source, path)
    if path.is_dir():
        return ModelSource(SourceKind.FOLDER, source, path)
    if HUB_ID.fullmatch(source) and not path.exists() and path.suffix != ".gguf":
        return ModelSource(SourceKind.HUB, source)
    raise ModelSourceError(
        "the model is unknown",
        where=f"model.source={source}",
        expected=SOURCE_KINDS,
        got="a file of another kind" if path.exists() else "no such name, file or folder",
        fix="correct model.source",
    )


@dataclass(frozen=True)
class Start:
    """The model that training starts from, once it is known whether it continues from a version."""

    model: ModelConfig
    note: str = ""
    """Where the weights come from; empty where the configuration leaves no choice."""


def choose_start(config: ModelConfig) -> Start:
    """Continue from a registered version where the alias has one, else start from the source.

    The result's source is a version by its number, since the alias may move while the run goes on.
    """
    if config.continue_from is None:
        return Start(config)
    found = find_champion(config.continue_from)
    if found is None:
        note = f"{config.continue_from} does not exist yet: training starts from {config.source}"
        return Start(config.model_copy(update={"continue_from": None}), note)
    update = {"source": found.address, "revision": None, "continue_from": None}
    note = f"training continues from version {found.version} of {found.name}"
    return Start(config.model_copy(update=update), f"{note} ({config.continue_from})")


def model_fingerprint(config: ModelConfig) -> str:
    """Return sha256 of a file or folder, hub commit, or registered version with its run."""
    source = resolve_source(config.source)
    match source.kind:
        case SourceKind.BUNDLED | SourceKind.GGUF | SourceKind.FOLDER:
            return _files_sha256(source)
        case SourceKind.HUB:
            return hub_commit(source.name, config.revision)
        case SourceKind.REGISTRY:
            return find_registered(source.name).fingerprint


def _files_sha256(source: ModelSource) -> str:
    """Hash files on disk; files that cannot be read are a fault of the source."""
    try:
        if source.kind is SourceKind.FOLDER:
            return folder_sha256(source.path)
        digest = file_sha256(source.path)
    except OSError as error:
        raise ModelSourceError(
            f"the model cannot be read: {error.strerror or error}",
            where=str(error.filename or source.path),
            fix="check the permissions of the file",
        ) from error
    return f"{BUNDLED_NAME} sha256:{digest}" if source.kind is SourceKind.BUNDLED else digest


def load_model(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the configured model with its tokenizer, after checking what its files may do.

    Weights keep the checkpoint's type; those of a .gguf file become 32-bit floats.
    """
    source = resolve_source(config.source)
    match source.kind:
        case SourceKind.BUNDLED | SourceKind.GGUF:
            return load_gguf(source.path)
        case SourceKind.FOLDER:
            return _load_folder(source.path, source.path, config)
        case SourceKind.HUB:
            return _load_hub_model(source.name, config)
        case SourceKind.REGISTRY:
            with tempfile.TemporaryDirectory() as scratch:
                model, tokenizer = fetch_registered(find_registered(source.name), Path(scratch))
                return _load_folder(model, tokenizer, config)


def _load_folder(
    folder: Path, tokenizer_folder: Path, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model folder; the tokenizer's folder is usually the same."""
    tokenizer_names = file_names(tokenizer_folder)
    check_files({*file_names(folder), *tokenizer_names}, str(folder), config)
    refuse_custom_code([folder / "config.json", tokenizer_folder / "tokenizer_config.json"], config)
    return _from_pretrained(str(folder), str(tokenizer_folder), None, config)


def _load_hub_model(
    name: str, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model from the hub, pinned to the current commit of its revision."""
    found = find_safe_hub_model(name, config)
    with hub_errors(name):
        return _from_pretrained(name, name, found.commit, config)


def find_safe_hub_model(name: str, config: ModelConfig) -> HubModel:
    """Find a model's commit and files on the hub and check what the files may do."""
    found = find_hub_model(name, config.revision)
    check_files(found.files, name, config)
    settings = found.files & {"config.json", "tokenizer_config.json"}
    refuse_custom_code([hub_file(found, setting) for setting in sorted(settings)], config)
    return found


def _from_pretrained(
    folder: str, tokenizer_folder: str, revision: str | None, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load with transformers; missing weights are an error, not a warning."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options = {"revision": revision, "trust_remote_code": config.trust_remote_code}
    try:
        if AutoConfig.from_pretrained(folder, **options).is_encoder_decoder:
            raise ValueError("it has an encoder, as models for translation and speech")
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, **options)
        model, notes = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            use_safetensors=None if config.allow_pickle else True,
            output_loading_info=True,
            **options,
        )
    except ConnectionError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise unloadable(folder, error) from error
    if missing := sorted(str(key) for key in notes["missing_keys"]):
        raise unloadable(folder, KeyError(f"weights missing: {', '.join(missing[:5])}"))
    if not tokenizer.is_fast:
        raise unloadable(tokenizer_folder, ValueError("its tokenizer has no tokenizer.json form"))
    return model, tokenizer
