"""Dataset and model as Prefect assets: which rows a registered version was made of.

Prefect's decorator `materialize` wants the keys when a task is defined; ours are known when it has
run. `AssetContext` is what the decorator sends its two events with. Every Prefect server stores
them in its event feed; pages that draw them are a part of Prefect Cloud.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext
from prefect.states import Completed

from schemas.config.run import DataSource, RunConfig
from tasks.engine.redaction import without_secrets
from tasks.report._artifacts import mlflow_links
from tasks.report.document import outcome
from tasks.sources.source import BUNDLED, SourceKind, resolve_source

FORBIDDEN = re.compile(r"""[\s\0#?&%"'<>\[\]{}|\\^`]""")
"""Characters that Prefect refuses in the key of an asset; it takes no percent-encoding either."""
MADE_BY = "sft-flow"


def dataset_key(source: DataSource) -> str:
    """Name a source as an address.

    Args:
        source: Where the rows come from.

    Returns:
        The address itself without passwords; python://package for bundled data; file://path for
        what lies here; hf://datasets/name otherwise.
    """
    name = source.source
    match resolve_source(source).kind:
        case SourceKind.BUNDLED:
            address = f"python://{BUNDLED[name].package}/{name}"
        case SourceKind.LOCAL:
            address = f"file://{Path(name.removeprefix('file://')).absolute()}"
        case SourceKind.HUB:
            address = f"hf://datasets/{name}"
        case SourceKind.ADDRESS:
            address = without_secrets(name)
    return FORBIDDEN.sub("_", address)


def model_key(name: str) -> str:
    """Name a registered model as an address.

    Args:
        name: Registered model name.

    Returns:
        mlflow://name; a space becomes an underscore.
    """
    return f"mlflow://{FORBIDDEN.sub('_', name)}"


def emit_assets(config: RunConfig, report: Mapping[str, Any]) -> None:
    """Say that a version of the model was made of the data.

    Args:
        config: Names data and model.
        report: `report.json`.
    """
    registry = report["registry"]
    model = Asset(
        key=model_key(registry["name"]),
        properties=AssetProperties(
            name=registry["name"],
            url=mlflow_links(report).get("version"),
            description=f"Version {registry['version']}: {outcome(dict(report))}",
        ),
    )
    origin = config.data.origin
    sources = [origin] if isinstance(origin, DataSource) else list(origin.values())
    facts = {
        "version": registry["version"],
        "decision": report["decision"],
        "is_promoted": registry["is_promoted"],
        "metrics": report["metrics"]["challenger"],
        **report["lineage"],
    }
    AssetContext(
        downstream_assets={model},
        direct_asset_dependencies={Asset(key=dataset_key(source)) for source in sources},
        materialized_by=MADE_BY,
        materialization_metadata={model.key: facts},
    ).emit_events(Completed())
