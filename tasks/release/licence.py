"""Find the licence of the base model in its files."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import yaml

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError, ServiceUnreachable
from tasks.models.hub import find_hub_model, hub_file
from tasks.models.source import SourceKind, resolve_source
from tasks.registry.store import connect
from tasks.registry.tags import LICENCE_TAG
from tasks.registry.versions import find_registered

GGUF_FIELD = "general.license"
CARD = "README.md"
UNREADABLE = (ModelSourceError, ServiceUnreachable, OSError, ValueError, yaml.YAMLError)
"""Without a readable card or Hub there is no licence; that is not an error."""


def find_licence(model: ModelConfig) -> str:
    """Read the licence where each kind of model has it; never guess.

    Args:
        model: The model section, its source being what was trained on.

    Returns:
        The licence as its author named it, mostly an SPDX or Hub identifier; empty if the files
        have none or cannot be reached any more.
    """
    with suppress(*UNREADABLE):
        source = resolve_source(model.source)
        match source.kind:
            case SourceKind.BUNDLED | SourceKind.GGUF:
                return _gguf_licence(source.path)
            case SourceKind.FOLDER:
                return _card_licence(source.path / CARD) or _config_licence(source.path)
            case SourceKind.HUB:
                found = find_hub_model(source.name, model.revision)
                return _card_licence(hub_file(found, CARD)) if CARD in found.files else ""
            case SourceKind.REGISTRY:
                base = find_registered(source.name)
                version = connect().get_model_version(base.name, str(base.version))
                return str(version.tags.get(LICENCE_TAG, ""))
    return ""


def _gguf_licence(path: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(path).get_field(GGUF_FIELD)
    return str(field.contents()) if field else ""


def _card_licence(path: Path) -> str:
    from huggingface_hub import metadata_load

    facts = metadata_load(path) if path.is_file() else None
    licence = (facts or {}).get("license")
    return licence if isinstance(licence, str) else ""


def _config_licence(folder: Path) -> str:
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    licence = facts.get("license")
    return licence if isinstance(licence, str) else ""
