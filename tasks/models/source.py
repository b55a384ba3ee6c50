"""Find and load a model: bundled, folder, .gguf file, hub or MLflow registry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from tasks.engine.keys import file_sha256
from tasks.engine.scratch import scratch_folder
from tasks.models.bundled import BUNDLED_NAME, bundled_file
from tasks.models.entries import refuse_other_entries
from tasks.models.files import (
    INDEX_ENDING,
    SETTINGS_FILES,
    check_files,
    check_folders,
    check_settings,
    file_names,
    folder_sha256,
    refuse_pointers,
    unloadable,
)
from tasks.models.gguf import load_gguf
from tasks.models.hub import HubModel, find_hub_model, hub_file
from tasks.models.shape import check_weights
from tasks.registry.versions import (
    REGISTRY_SCHEME,
    fetch_registered,
    find_champion,
    find_registered,
)
from tasks.sources.hub import HUB_ID, ask_hub, hub_commit

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
        refuse_pointers([path])
        return ModelSource(SourceKind.GGUF, source, path)
    if path.is_dir():
        refuse_pointers(path / name for name in file_names(path))
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

    A registered source becomes a version by its number, since the alias may move while the run goes on.
    """
    found = find_champion(config.continue_from) if config.continue_from else None
    if found is None:
        update = {"source": _numbered(config.source), "continue_from": None}
        note = f"{config.continue_from} does not exist yet: training starts from {config.source}"
        return Start(config.model_copy(update=update), note if config.continue_from else "")
    update = {"source": found.address, "revision": None, "continue_from": None}
    note = f"training continues from version {found.version} of {found.name}"
    return Start(config.model_copy(update=update), f"{note} ({config.continue_from})")


def _numbered(source: str) -> str:
    """Replace an alias by the number of its version; other sources stay as they are."""
    return find_registered(source).address if source.startswith(REGISTRY_SCHEME) else source


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
            refuse_other_entries(source.path)
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
            with scratch_folder() as scratch:
                model, tokenizer = fetch_registered(find_registered(source.name), scratch)
                return _load_folder(model, tokenizer, config)


def _load_folder(
    folder: Path, tokenizer_folder: Path, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model folder; the tokenizer's folder is usually the same."""
    check_folders(folder, tokenizer_folder, config)
    check_weights(folder)
    return _from_pretrained(str(folder), str(tokenizer_folder), None, config)


def _load_hub_model(
    name: str, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model from the hub, pinned to the current commit of its revision."""
    found = find_safe_hub_model(name, config)
    return ask_hub(lambda: _from_pretrained(name, name, found.commit, config), name)


def find_safe_hub_model(name: str, config: ModelConfig) -> HubModel:
    """Find a model's commit and files on the hub and check what the files may do."""
    found = find_hub_model(name, config.revision)
    check_files(found.files, name, config)
    _check_hub_settings(found, config)
    return found


def _check_hub_settings(found: HubModel, config: ModelConfig) -> None:
    settings = {
        name for name in found.files if name in SETTINGS_FILES or name.endswith(INDEX_ENDING)
    }
    check_settings([hub_file(found, name) for name in sorted(settings)], config)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer alone, after checking what its files may do; it may have no code at all.

    Args:
        name: Of a folder or of a model on the Hub.

    Returns:
        The tokenizer.

    Raises:
        ModelSourceError: There is none, it cannot be loaded, or it has Python code.
    """
    from transformers import AutoTokenizer

    source, config = resolve_source(name), ModelConfig(source=name)
    where = name
    revision: str | None = None
    try:
        if source.kind is SourceKind.HUB:
            found = find_hub_model(name, None)
            revision = found.commit
            _check_hub_settings(found, config)
        else:
            where = str(source.path)
            refuse_other_entries(source.path)
            check_settings((source.path / file for file in SETTINGS_FILES), config)
        return ask_hub(
            lambda: AutoTokenizer.from_pretrained(
                where, revision=revision, trust_remote_code=False
            ),
            name,
        )
    except (ConnectionError, ModelSourceError):
        raise
    except Exception as error:  # files made to harm can bring about any
        raise ModelSourceError(
            "the tokenizer cannot be loaded",
            where=name,
            expected="a folder or hub id with a tokenizer",
            got=(str(error).strip() or type(error).__name__).splitlines()[0],
            fix="correct the name, or use another tokenizer",
        ) from error


def _from_pretrained(
    folder: str, tokenizer_folder: str, revision: str | None, config: ModelConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load with transformers; missing weights are an error, not a warning."""
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
    except (ConnectionError, MemoryError):
        raise
    except Exception as error:  # files made to harm can bring about any
        raise unloadable(folder, error) from error
    if missing := sorted(str(key) for key in notes["missing_keys"]):
        raise unloadable(folder, KeyError(f"weights missing: {', '.join(missing[:5])}"))
    if not tokenizer.is_fast:
        raise unloadable(tokenizer_folder, ValueError("its tokenizer has no tokenizer.json form"))
    return model, tokenizer
