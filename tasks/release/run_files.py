"""What the MLflow run of a version contains: settings, data, loss curve, metrics and files."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from schemas.config.run import RunConfig
from schemas.records.references import Evidence, TrainedReference
from tasks.dataset.trained_rows import collect_trained_rows, write_trained_rows
from tasks.engine.cache import locate
from tasks.engine.redaction import public_settings
from tasks.engine.scratch import scratch_folder
from tasks.models.files import remove_paths
from tasks.registry.lineage import config_text, lineage_tags, metrics_by_role
from tasks.registry.store import flatten
from tasks.registry.tags import (
    ADAPTER_FOLDER,
    ADAPTER_TAG,
    LICENCE_TAG,
    SOURCE_TAG,
    TRAINING_RUN_TAG,
)
from tasks.release.model_card import CardFacts, readme
from tasks.release.reload.spec import EVALUATION_FOLDER, write_evaluated
from tasks.sources.mixture import public_title
from tasks.sources.row_digests import ROW_DIGESTS
from tasks.training.live_metrics import Point, log_points, read_training_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

CARD_FOLDER = "model_card"
"""Artefact folder of the run: README.md and the facts it was written from."""
PEFT_CARD = "README.md"
"""File of an adapter: an empty form of PEFT with the path of the base model."""
DATA_FOLDER = "data"
"""Artefact folder of the run: profile, digests and rule results of its rows."""
MAX_DIGEST = 36
"""Longest dataset digest MLflow stores; the full sha256 is in the tags."""


def training_tags(trained: TrainedReference, run_id: str) -> dict[str, str]:
    """Return the addresses of the adapter, if there is one, and of the run of the training."""
    tags: dict[str, str] = {}
    adapter = locate(trained, "adapter")
    if adapter.is_dir():
        tags[ADAPTER_TAG] = f"runs:/{run_id}/{ADAPTER_FOLDER}"
    watched = read_training_run(adapter.parent)
    if watched:
        tags[TRAINING_RUN_TAG] = watched.run_id
    return tags


def history_points(history: list[dict[str, Any]]) -> list[Point]:
    """Convert the log of a training into points of MLflow metrics, named as in the training's own run."""
    now = round(time.time() * 1000)
    return [
        Point(f"train/{name}", float(value), int(entry["step"]), now)
        for entry in history
        for name, value in entry.items()
        if name != "step"
    ]


def log_training(client: MlflowClient, run_id: str, config: RunConfig, evidence: Evidence) -> None:
    """Log what stays the same for one model: parameters, data, loss curve and adapter."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    mlflow.log_params(flatten(public_settings(config.model_dump(mode="json"))))
    data = public_title(config.data.origin)
    source = CodeDatasetSource(tags={SOURCE_TAG: data})
    digest = evidence.checked.kept_sha256[:MAX_DIGEST]
    mlflow.log_input(
        MetaDataset(source=source, name=data[-250:], digest=digest), context="training"
    )
    history = json.loads(locate(evidence.trained, "history.json").read_text(encoding="utf-8"))
    log_points(client, run_id, history_points(history))
    for reference, name in (
        (evidence.checked, "rules.json"),
        (evidence.quality, "quality.json"),
        (evidence.quality, "profile.json"),
    ):
        client.log_artifact(run_id, str(locate(reference, name)), DATA_FOLDER)
    client.log_artifact(run_id, str(locate(evidence.trained, "loss_curve.svg")))
    log_adapter(client, run_id, evidence.trained)


def log_adapter(client: MlflowClient, run_id: str, trained: TrainedReference) -> None:
    """Log the adapter of a LoRA training next to the merged model."""
    adapter = locate(trained, "adapter")
    if not adapter.is_dir():
        return
    with scratch_folder() as scratch:
        copy = scratch / "adapter"
        shutil.copytree(adapter, copy, ignore=shutil.ignore_patterns(PEFT_CARD))
        remove_paths(copy)
        client.log_artifacts(run_id, str(copy), ADAPTER_FOLDER)


def log_decision(
    client: MlflowClient, run_id: str, config: RunConfig, evidence: Evidence, card: CardFacts
) -> None:
    """Log what each decision on the same model replaces: metrics, gates, evaluation and card."""
    now = round(time.time() * 1000)
    points = [
        Point(f"{role.value}/{name}", value, 0, now)
        for role, metrics in metrics_by_role(evidence).items()
        for name, value in metrics.items()
        if value is not None
    ]
    log_points(client, run_id, points)
    client.log_artifact(run_id, str(locate(evidence.decision, "gates.json")))
    client.log_artifact(run_id, str(locate(evidence.dataset, ROW_DIGESTS)), DATA_FOLDER)
    client.log_text(run_id, config_text(config), "config.yaml")
    client.log_text(run_id, readme(card), f"{CARD_FOLDER}/README.md")
    client.log_text(run_id, json.dumps(dict(card), indent=1), f"{CARD_FOLDER}/facts.json")
    with scratch_folder() as scratch:
        rows = collect_trained_rows(evidence.split, evidence.template)
        client.log_artifact(run_id, str(write_trained_rows(rows, scratch)), DATA_FOLDER)
    with scratch_folder() as scratch:
        write_evaluated(config, evidence, scratch)
        client.log_artifacts(run_id, str(scratch), EVALUATION_FOLDER)


def version_tags(
    config: RunConfig, evidence: Evidence, run_id: str, card: CardFacts
) -> dict[str, str]:
    """Collect the tags of a version."""
    tags = lineage_tags(config, evidence, run_id) | training_tags(evidence.trained, run_id)
    return tags | ({LICENCE_TAG: card["licence"]} if card["licence"] else {})
