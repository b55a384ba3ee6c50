"""The files below deploy/, as data."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.support.documentation import ROOT

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
TEMPLATE_PATH = DEPLOY / "kubernetes" / "base-job-template.json"
TEMPLATE: dict[str, Any] = json.loads(TEMPLATE_PATH.read_text(encoding="utf-8"))
POD = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
MANIFESTS = {
    f"{document['kind']} {document['metadata']['name']}": document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
"""A variable of deploy/.env that must be set."""


def values_of(document: Any, key: str) -> list[Any]:
    """Collect what stands under a key, at any depth."""
    if isinstance(document, list):
        return [value for part in document for value in values_of(part, key)]
    if not isinstance(document, dict):
        return []
    return [
        value
        for name, part in document.items()
        for value in ([part] if name == key else values_of(part, key))
    ]
