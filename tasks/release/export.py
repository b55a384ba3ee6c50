"""Export a registered version as a folder: weights, tokenizer, model card and lineage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError, RegistryError, ServiceUnreachable
from tasks.engine.redaction import without_folders
from tasks.engine.scratch import scratch_folder
from tasks.models.files import remove_paths
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import ADAPTER_TAG
from tasks.registry.versions import (
    REGISTRY_SCHEME,
    RegisteredModel,
    fetch_registered,
    find_registered,
)
from tasks.release.run_files import CARD_FOLDER, PEFT_CARD

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LINEAGE_FILE = "sft_flow.json"
LINEAGE_KEYS = {"name", "version", "tags"}

CONVERTER = "convert_hf_to_gguf.py"
LLAMA_CPP_VARIABLE = "LLAMA_CPP_HOME"
CONVERT_SECONDS = 3600
MOST_OUTPUT_CHARACTERS = 2000


def read_address(text: str) -> str:
    """Return the registry address of NAME (its champion), NAME@alias or NAME/3, with or without models:/."""
    name = text.removeprefix(REGISTRY_SCHEME)
    has_version = "@" in name or ("/" in name and name.rpartition("/")[2].isdigit())
    return f"{REGISTRY_SCHEME}{name if has_version else f'{name}@champion'}"


def export_version(address: str, target: Path, *, is_overwriting: bool) -> dict[str, Any]:
    """Write a version as a folder that `transformers` loads, and return its lineage (`sft_flow.json`).

    The folder is written under another name and renamed. A folder that is not empty is refused,
    unless it is an earlier export and may be overwritten.
    """
    check_target(target, is_overwriting=is_overwriting)
    model = find_registered(address)
    client = connect()
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with store_errors(), scratch_folder() as scratch:
            version = client.get_model_version(model.name, str(model.version))
            _copy_files(model, aside, scratch)
            _add_adapter(version, aside)
            (aside / "README.md").write_text(_card(client, version), encoding="utf-8")
        tags = {tag: without_folders(text) for tag, text in version.tags.items()}
        lineage = {"name": model.name, "version": model.version, "tags": tags}
        text = json.dumps(lineage, indent=1, ensure_ascii=False)
        (aside / LINEAGE_FILE).write_text(text, encoding="utf-8")
        remove_paths(aside)
        if target.exists():
            shutil.rmtree(target)
        os.replace(aside, target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return lineage


def check_target(target: Path, *, is_overwriting: bool) -> None:
    """Check that no file would be lost.

    Args:
        target: The folder to write.
        is_overwriting: An earlier export may be replaced.

    Raises:
        RegistryError: It contains something else, or an earlier export that may not be replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    is_export = _is_export(target)
    if is_export and is_overwriting:
        return
    raise RegistryError(
        "the folder to export to is not empty",
        where=str(target),
        expected="a new or empty folder" + (", or --overwrite" if is_export else ""),
        got="an earlier export" if is_export else "other files",
        fix="add --overwrite" if is_export else "choose another folder",
    )


def _is_export(folder: Path) -> bool:
    """Distinguish an export from a prepared or trained model, which has a file of the same name."""
    path = folder / LINEAGE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() >= LINEAGE_KEYS


def _copy_files(model: RegisteredModel, folder: Path, scratch: Path) -> None:
    weights, tokenizer = fetch_registered(model, scratch)
    for source in dict.fromkeys((tokenizer, weights)):
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _add_adapter(version: ModelVersion, folder: Path) -> None:
    """Add the adapter of a LoRA training next to the merged model."""
    import mlflow

    address = version.tags.get(ADAPTER_TAG)
    if address:
        adapter = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
        (adapter / PEFT_CARD).unlink(missing_ok=True)


def _card(client: MlflowClient, version: ModelVersion) -> str:
    """Return the model card that was logged, or the description of the version."""
    import mlflow

    if version.run_id:
        names = {file.path for file in client.list_artifacts(version.run_id, CARD_FOLDER)}
        if f"{CARD_FOLDER}/README.md" in names:
            return str(
                mlflow.artifacts.load_text(f"runs:/{version.run_id}/{CARD_FOLDER}/README.md")
            )
    return f"# {version.name}, version {version.version}\n\n{version.description or ''}\n"


def find_converter() -> Path:
    """Find llama.cpp's converter.

    Returns:
        Its path.

    Raises:
        ConfigError: It is neither in `LLAMA_CPP_HOME` nor on the path.
    """
    home = os.environ.get(LLAMA_CPP_VARIABLE)
    places = [Path(home) / CONVERTER] if home else []
    on_path = shutil.which(CONVERTER)
    places += [Path(on_path)] if on_path else []
    for place in places:
        if place.is_file():
            return place
    raise ConfigError(
        "GGUF needs llama.cpp's converter, which is not installed",
        where=f"{LLAMA_CPP_VARIABLE} and PATH",
        expected=CONVERTER,
        got="none",
        fix=f"clone https://github.com/ggml-org/llama.cpp and set {LLAMA_CPP_VARIABLE} to it",
    )


def write_gguf(folder: Path, converter: Path) -> Path:
    """Convert an exported folder to GGUF.

    Args:
        folder: From `export_version`.
        converter: From `find_converter`.

    Returns:
        `model.gguf` in the folder.

    Raises:
        ConfigError: The converter failed.
    """
    target = folder / "model.gguf"
    done = subprocess.run(  # noqa: S603 - the tool the user installed
        [sys.executable, str(converter), str(folder), "--outfile", str(target)],
        capture_output=True,
        text=True,
        timeout=CONVERT_SECONDS,
        check=False,
    )
    if done.returncode or not target.is_file():
        raise ConfigError(
            "the conversion to GGUF failed",
            where=str(converter),
            expected="exit code 0 and a file",
            got=f"exit code {done.returncode}: {done.stderr.strip()[-MOST_OUTPUT_CHARACTERS:]}",
            fix="use a newer llama.cpp, or export without --gguf",
        )
    return target


def push_to_hub(folder: Path, repository: str, *, is_public: bool) -> str:
    """Upload an exported folder with its model card.

    Args:
        folder: From `export_version`.
        repository: `owner/name`.
        is_public: Make a new repository public; an existing one keeps its setting.

    Returns:
        Address of the upload.

    Raises:
        ConfigError: There is no token, or the Hub rejects the upload.
        ServiceUnreachable: The Hub does not answer.
    """
    import httpx
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not get_token():
        raise ConfigError(
            "pushing to the Hub needs a token",
            where="HF_TOKEN",
            expected="a token with write access",
            got="none",
            fix="run `hf auth login`, or set HF_TOKEN",
        )
    api = HfApi()
    try:
        api.create_repo(repository, private=not is_public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Export by sft-flow"
        )
    except HfHubHTTPError as error:
        raise ConfigError(
            "the Hub rejected the upload",
            where=repository,
            expected="a repository that the token may write to",
            got=str(error).splitlines()[0],
            fix="correct the name of the repository, or the rights of the token",
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise ServiceUnreachable(
            "the Hub cannot be reached",
            where=api.endpoint,
            expected="an answer",
            got=f"{type(error).__name__}: {error}",
            fix="try again; the exported folder is complete",
        ) from error
    return str(done.commit_url)
