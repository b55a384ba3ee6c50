"""The files of a model: which ones it needs, what they may do, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from tasks.engine.keys import file_sha256

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
"""One of these makes a tokenizer."""

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
        ModelSourceError: Something is missing, or the weights are pickled.
    """
    present = set(names)
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
    is_pickled = any(name.endswith((".bin", ".pt", ".pth")) for name in present)
    if not is_pickled or not config.allow_pickle:
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


def refuse_custom_code(settings: Iterable[Path], config: ModelConfig) -> None:
    """Refuse a model with Python code, unless that is allowed.

    Args:
        settings: Its config.json and tokenizer_config.json; the second may be missing.
        config: The model section.

    Raises:
        ModelSourceError: A file refers to code, or is not JSON.
    """
    for path in settings:
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise unloadable(str(path), error) from error
        if values.get("auto_map") and not config.trust_remote_code:
            raise ModelSourceError(
                "the model contains Python code",
                where=f"auto_map in {path}",
                expected="an architecture of transformers",
                got=json.dumps(values["auto_map"]),
                fix="use another model, or read that code and set model.trust_remote_code=true",
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
