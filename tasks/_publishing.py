"""What becomes of an exported folder: a GGUF file, or a repository on the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.errors import ConfigError, ServiceUnreachable

CONVERTER = "convert_hf_to_gguf.py"
LLAMA_CPP_VARIABLE = "LLAMA_CPP_HOME"
CONVERT_SECONDS = 3600
MOST_OUTPUT_CHARACTERS = 2000


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
    """Convert an exported folder.

    Args:
        folder: What `export_version` wrote.
        converter: What `find_converter` found.

    Returns:
        `model.gguf` in the folder.

    Raises:
        ConfigError: The converter does not take the model.
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
            "the converter did not take the model",
            where=str(converter),
            expected="exit code 0 and a file",
            got=f"exit code {done.returncode}: {done.stderr.strip()[-MOST_OUTPUT_CHARACTERS:]}",
            fix="use a newer llama.cpp, or export without --gguf",
        )
    return target


def push_to_hub(folder: Path, repository: str, *, is_public: bool) -> str:
    """Upload an exported folder with its model card.

    Args:
        folder: What `export_version` wrote.
        repository: `owner/name`.
        is_public: Let everybody see it; a repository that exists keeps its setting.

    Returns:
        Address of the upload.

    Raises:
        ConfigError: No token, or the hub refuses it.
        ServiceUnreachable: The hub does not answer.
    """
    import httpx
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not get_token():
        raise ConfigError(
            "pushing to the hub needs a token",
            where="HF_TOKEN",
            expected="a token with the right to write",
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
            "the hub refuses the upload",
            where=repository,
            expected="a repository that the token may write to",
            got=str(error).splitlines()[0],
            fix="correct the repository's name, or the token's rights",
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise ServiceUnreachable(
            "the hub does not answer",
            where=api.endpoint,
            expected="a hub that can be reached",
            got=f"{type(error).__name__}: {error}",
            fix="try again; the exported folder is whole",
        ) from error
    return str(done.commit_url)
