"""The files of a model: which ones it needs, what they may do, and their hash."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from schemas.small_files import read_small_text
from tasks.engine.keys import file_sha256
from tasks.models.entries import refuse_other_entries

LOGGER = logging.getLogger(__name__)
SETTINGS_FILES = ("config.json", "tokenizer_config.json")
"""May name Python code in `auto_map`."""
ADAPTER_FILE = "adapter_config.json"
"""Next to a model it makes transformers load another one: the base that it names."""
INDEX_ENDING = ".safetensors.index.json"
"""Lists the files of the weights; transformers opens whatever it names."""
PICKLE_ENDINGS = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
VERSION_KEYS = ("configuration_files", "fast_tokenizer_files")
"""Settings that list further settings, from which transformers chooses by its own version."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
"""One of these makes a tokenizer."""

POINTER_START = b"version https://git-lfs.github.com/spec/"
PATH_KEYS = {
    "_name_or_path",
    "base_model_name_or_path",
    "merges_file",
    "name_or_path",
    "special_tokens_map_file",
    "tokenizer_file",
    "vocab_file",
}
"""Settings in which the libraries write where a model was read from."""


def folder_sha256(folder: Path) -> str:
    """Hash names and contents of a folder's files; hidden files do not count."""
    digest = hashlib.sha256()
    for name in file_names(folder):
        digest.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def file_names(folder: Path) -> list[str]:
    """List the relative names of a folder's files in order, without hidden ones."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)
    )


def check_files(names: Iterable[str], where: str, config: ModelConfig) -> None:
    """Check that config, tokenizer and weights of a permitted kind are present.

    Args:
        names: Files of the model.
        where: The model, for the message.
        config: The model section.

    Raises:
        ModelSourceError: Something is missing, the weights are pickled, or an adapter is among them.
    """
    present = set(names)
    if ADAPTER_FILE in present:
        raise ModelSourceError(
            "the model has an adapter, whose base may be any other model",
            where=where,
            expected="complete weights in model.safetensors",
            got=ADAPTER_FILE,
            fix="merge it with PEFT's merge_and_unload and save the model with save_pretrained",
        )
    if "config.json" not in present:
        raise ModelSourceError(
            "the model has no config.json",
            where=where,
            expected="config.json, model.safetensors, tokenizer.json",
            got=_shown(present),
            fix="set the folder that save_pretrained wrote, or the .gguf file itself",
        )
    if not present & set(TOKENIZER_FILES):
        raise ModelSourceError(
            "the model has no tokenizer",
            where=where,
            expected="tokenizer.json, or tokenizer.model, or vocab.json with merges.txt",
            got=_shown(present),
            fix="save the tokenizer into the same folder: tokenizer.save_pretrained(folder)",
        )
    if any(name.endswith(".safetensors") for name in present):
        return
    is_pickled = any(name.endswith(PICKLE_ENDINGS) for name in present)
    if is_pickled and config.allow_pickle:
        LOGGER.warning("model.allow_pickle is on: weights of %s are not safetensors", where)
    else:
        raise ModelSourceError(
            "the weights are pickled, which can run code" if is_pickled else "there are no weights",
            where=where,
            expected="model.safetensors, complete or in shards",
            got=_shown(present),
            fix="convert them with save_pretrained, or set model.allow_pickle=true if you trust "
            "where they come from"
            if is_pickled
            else "set a folder that contains the weights",
        )


def _shown(names: set[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - 8} more" if len(ordered) > 8 else ""
    return (", ".join(ordered[:8]) + rest) or "no files"


def check_folders(folder: Path, tokenizer_folder: Path, config: ModelConfig) -> None:
    """Check what the files of a model on disk may do; the tokenizer's folder is usually the same.

    Args:
        folder: Of the model.
        tokenizer_folder: Of its tokenizer.
        config: The model section.

    Raises:
        ModelSourceError: Something is missing, pickled, Python code, or outside the folder.
    """
    for one in dict.fromkeys((folder, tokenizer_folder)):
        refuse_other_entries(one)
    check_files({*file_names(folder), *file_names(tokenizer_folder)}, str(folder), config)
    indices = (folder / name for name in file_names(folder) if name.endswith(INDEX_ENDING))
    check_settings(
        [folder / SETTINGS_FILES[0], tokenizer_folder / SETTINGS_FILES[1], *indices], config
    )


def check_settings(paths: Iterable[Path], config: ModelConfig) -> None:
    """Check what the JSON files of a model make transformers load.

    Args:
        paths: Its config.json, tokenizer_config.json and index of weights; all may be missing.
        config: The model section.

    Raises:
        ModelSourceError: A file refers to code, to other settings, or to weights that are pickled
            or outside the model, or is no JSON object.
    """
    for path in paths:
        if not path.is_file():
            continue
        try:
            values = json.loads(read_small_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise unloadable(str(path), error) from error
        if not isinstance(values, dict):
            raise unloadable(str(path), TypeError("it is no JSON object"))
        if path.name.endswith(INDEX_ENDING):
            _check_index(path, values)
        for key in values.keys() & set(VERSION_KEYS):
            raise ModelSourceError(
                "the settings of the model name other files in their place",
                where=f"{key} in {path}",
                expected="one config.json and one tokenizer.json",
                got=json.dumps(values[key]),
                fix="save the model again with save_pretrained, or use another model",
            )
        _check_code(path, values, config)


def _check_code(path: Path, values: Mapping[str, Any], config: ModelConfig) -> None:
    """Refuse settings that name Python code, at any depth, unless that is allowed."""
    for key, code in _named_code(values):
        if not config.trust_remote_code:
            raise ModelSourceError(
                "the model contains Python code",
                where=f"{key} in {path}",
                expected="an architecture of transformers",
                got=json.dumps(code),
                fix="use another model, or read that code and set model.trust_remote_code=true",
            )
        LOGGER.warning(
            "model.trust_remote_code is on: Python code that comes with the model runs with your "
            "rights: %s in %s",
            json.dumps(code),
            path,
        )


def _named_code(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each setting that names code: classes, and kernels on the Hub."""
    if isinstance(value, dict):
        for key, inner in value.items():
            is_kernel = key.endswith("implementation") and "/" in json.dumps(inner)
            if inner and (key == "auto_map" or is_kernel):
                yield key, inner
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _named_code(item)


def _check_index(path: Path, values: Mapping[str, Any]) -> None:
    files = values.get("weight_map")
    names = files.values() if isinstance(files, dict) else ()
    for name in dict.fromkeys(map(str, names)):
        parts = PurePosixPath(name)
        if not name.endswith(".safetensors") or parts.is_absolute() or ".." in parts.parts:
            raise ModelSourceError(
                "the index of the weights names a file that is not loaded",
                where=str(path),
                expected="files of the model that end in .safetensors",
                got=name,
                fix="save the model again with save_pretrained, or use another model",
            )


def refuse_pointers(files: Iterable[Path]) -> None:
    """Refuse files that `git clone` writes without git-lfs: a few lines in place of the content.

    Args:
        files: The files of a model.

    Raises:
        ModelSourceError: One is such a pointer.
    """
    for path in files:
        try:
            with path.open("rb") as stream:
                start = stream.read(len(POINTER_START))
        except OSError:
            continue  # reported where it is read
        if start == POINTER_START:
            raise ModelSourceError(
                f"{path.name} is a Git LFS pointer, not the file it points to",
                where=str(path),
                expected="the weights and the tokenizer themselves",
                got=f"a text of {path.stat().st_size} bytes",
                fix="install git-lfs and run `git lfs pull` in the clone, or download the model again",
            )


def unloadable(where: str, error: Exception) -> ModelSourceError:
    """Make the error that a library cannot load a model from the files."""
    return ModelSourceError(
        "the model cannot be loaded",
        where=where,
        expected="complete files of a causal language model that transformers supports",
        got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
        fix="load it with AutoModelForCausalLM.from_pretrained to see more, or download it again",
    )


def remove_paths(folder: Path) -> None:
    """Remove absolute paths of this machine from a model's JSON settings."""
    for name in file_names(folder):
        if not name.endswith("config.json"):
            continue
        path = folder / name
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        cleaned = _clean(settings)
        if cleaned != settings:
            path.write_text(json.dumps(cleaned, indent=2, ensure_ascii=False), encoding="utf-8")


def _clean(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "" if key in PATH_KEYS and Path(str(item)).is_absolute() else _clean(item)
        for key, item in value.items()
    }
