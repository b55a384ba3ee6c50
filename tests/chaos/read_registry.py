"""Print the versions of a name as JSON: run as `python -m tests.chaos.read_registry NAME`."""

from __future__ import annotations

import json
import sys
from typing import Any

from tasks.registry.aliases import settle_aliases
from tasks.registry.store import connect, has_model_files
from tasks.registry.tags import WEIGHTS_TAG
from tasks.registry.versions import search_versions


def read_versions(name: str) -> list[dict[str, Any]]:
    """Return number, aliases and tags of each version, and whether it has its files."""
    client = connect()
    found = client.search_registered_models(filter_string=f"name = '{name}'")
    if not found:
        return []
    settle_aliases(client, name)
    aliases = client.get_registered_model(name).aliases
    return [
        {
            "version": int(version.version),
            "aliases": [alias for alias, number in aliases.items() if number == version.version],
            "tags": dict(version.tags),
            "has_files": WEIGHTS_TAG not in version.tags
            and has_model_files(client, str(version.source)),
        }
        for version in search_versions(client, name)
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read_versions(sys.argv[1])))
