"""Stage `register_model`: one MLflow run and one model version, with the lineage in its tags."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.records import Evidence, TrainedReference, VersionReference
from schemas.run_config import RunConfig
from tasks._cache import OutputFolder, locate
from tasks._champion import DATASET_TAG
from tasks._home import tracking_uri
from tasks._live_metrics import Point, log_points, read_training_run
from tasks._named_sources import title
from tasks._registry import (
    FINGERPRINT_TAG,
    connect,
    create_version,
    experiment_id,
    find_version,
    flatten,
    has_model_files,
    store_errors,
)
from tasks._secrets import public_settings, without_secrets
from tasks._stage import stage_task

if TYPE_CHECKING:
    from mlflow import MlflowClient

DECISION_TAG = "sft.decision"
TRAINING_RUN_TAG = "sft.training_run_id"
"""The training's own run. It is another one: several versions may come of one training."""
ADAPTER_TAG = "sft.adapter"
SERVING_PACKAGES = ("accelerate", "torch", "transformers")
MAX_DIGEST = 36
"""Longest dataset digest MLflow stores; the whole sha256 stands in the tags."""


def lineage_tags(evidence: Evidence, fingerprint: str) -> dict[str, str]:
    """Say where a version comes from, in tags that can be searched.

    Args:
        evidence: What the version rests on.
        fingerprint: Key of the registering stage.

    Returns:
        Tag name to text.
    """
    loss = evidence.evaluation.metrics["loss"]
    base_loss = evidence.baseline.metrics["loss"]
    return {
        FINGERPRINT_TAG: fingerprint,
        DECISION_TAG: evidence.decision.decision.value,
        "sft.reason": evidence.decision.reason,
        DATASET_TAG: evidence.checked.kept_sha256,
        "sft.train_rows": str(evidence.quality.n_train_rows),
        "sft.eval_rows": str(evidence.quality.n_eval_rows),
        "sft.quarantined_rows": str(evidence.checked.n_quarantined_rows),
        "sft.eval_sha256": evidence.quality.eval_sha256,
        "sft.eval_rows_sha256": evidence.split.eval_sha256,
        "sft.eval_is_pinned": str(evidence.split.is_pinned).lower(),
        "sft.template_sha256": evidence.template.template_sha256,
        "sft.base_model": evidence.template.model_name,
        "sft.base_fingerprint": evidence.template.model_fingerprint,
        "sft.model_sha256": evidence.trained.sha256,
        "sft.code_version": importlib.metadata.version("sft-flow"),
        "sft.heldout_loss": f"{loss}",
        "sft.base_heldout_loss": f"{base_loss}",
    }


def training_tags(trained: TrainedReference, run_id: str) -> dict[str, str]:
    """Keep the adapter beside the merged model, and say where the training was watched.

    Args:
        trained: Output of the training; `adapter/` in it is logged to the active run.
        run_id: The active run.

    Returns:
        Tag name to text; none for what there is not.
    """
    import mlflow

    tags: dict[str, str] = {}
    adapter = locate(trained, "adapter")
    if adapter.is_dir():
        mlflow.log_artifacts(str(adapter), "adapter")
        tags[ADAPTER_TAG] = f"runs:/{run_id}/adapter"
    watched = read_training_run(adapter.parent)
    if watched:
        tags[TRAINING_RUN_TAG] = watched.run_id
    return tags


def describe(evidence: Evidence) -> str:
    """Write the version's description.

    Args:
        evidence: What the version rests on.

    Returns:
        Markdown.
    """
    base, tuned = evidence.baseline.metrics, evidence.evaluation.metrics
    rows = "\n".join(f"| {name} | {base[name]} | {tuned[name]} |" for name in tuned)
    return (
        f"Fine-tuned from {evidence.template.model_name} on {evidence.quality.n_train_rows} rows "
        f"({evidence.trained.n_steps} steps), judged on {evidence.quality.n_eval_rows} held-out "
        f"rows.\n\n**{evidence.decision.decision.value}**: {evidence.decision.reason}\n\n"
        f"| metric | base | tuned |\n|---|---|---|\n{rows}\n"
    )


def history_points(history: list[dict[str, Any]]) -> list[Point]:
    """Turn the log of a training into points of MLflow metrics.

    Args:
        history: Entries with `step` and figures.

    Returns:
        One point a figure, named as in the training's own run.
    """
    now = round(time.time() * 1000)
    return [
        Point(f"train/{name}", float(value), int(entry["step"]), now)
        for entry in history
        for name, value in entry.items()
        if name != "step"
    ]


def log_evidence(client: MlflowClient, run_id: str, config: RunConfig, evidence: Evidence) -> None:
    """Log parameters, data, loss curve, scores and files to the active run.

    Args:
        client: The store.
        run_id: The active run.
        config: The resolved configuration.
        evidence: What the run produced.
    """
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    settings = public_settings(config.model_dump(mode="json"))
    mlflow.log_params(flatten(settings))
    mlflow.log_text(yaml.safe_dump(settings, sort_keys=False), "config.yaml")
    data = title(config.data.origin)
    source = CodeDatasetSource(tags={"sft.source": data})
    digest = evidence.checked.kept_sha256[:MAX_DIGEST]
    mlflow.log_input(
        MetaDataset(source=source, name=data[-250:], digest=digest), context="training"
    )
    history = json.loads(locate(evidence.trained, "history.json").read_text(encoding="utf-8"))
    log_points(client, run_id, history_points(history))
    for side, scores in (("base", evidence.baseline), ("tuned", evidence.evaluation)):
        mlflow.log_metrics(
            {f"{side}/{key}": value for key, value in scores.metrics.items() if value is not None}
        )
    mlflow.log_artifact(str(locate(evidence.decision, "gates.json")))
    mlflow.log_artifact(str(locate(evidence.checked, "rules.json")), "data")
    mlflow.log_artifact(str(locate(evidence.quality, "quality.json")), "data")
    mlflow.log_artifact(str(locate(evidence.quality, "profile.json")), "data")
    mlflow.log_artifact(str(locate(evidence.trained, "loss_curve.svg")))


def log_chat_model(folder: Path) -> str:
    """Log the model so that `mlflow.pyfunc.load_model` answers chat messages.

    Args:
        folder: The merged model, loadable by transformers.

    Returns:
        URI of the logged model.
    """
    import mlflow

    requirements = [f"{name}=={_public_version(name)}" for name in ("mlflow", *SERVING_PACKAGES)]
    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)
    info = mlflow.transformers.log_model(
        transformers_model=str(folder),
        name="model",
        task="llm/v1/chat",
        pip_requirements=requirements,
        model_card=None,
    )
    return str(info.model_uri)


def _public_version(package: str) -> str:
    return importlib.metadata.version(package).split("+")[0]  # a local build's label is not on PyPI


def register(
    client: MlflowClient, config: RunConfig, evidence: Evidence, fingerprint: str
) -> tuple[int, str, str]:
    """Make the run, the logged model and the version.

    Args:
        client: The store.
        config: The resolved configuration.
        evidence: What the version rests on.
        fingerprint: Key of the registering stage.

    Returns:
        Version, run id and model URI.
    """
    import mlflow

    registry = config.registry
    experiment = experiment_id(client, registry.experiment)
    with mlflow.start_run(experiment_id=experiment, run_name=registry.name) as run:
        run_id = str(run.info.run_id)
        log_evidence(client, run_id, config, evidence)
        model_uri = log_chat_model(locate(evidence.trained, "model"))
        tags = lineage_tags(evidence, fingerprint) | training_tags(evidence.trained, run_id)
        version = create_version(client, registry.name, model_uri, run_id, tags)
        client.update_model_version(registry.name, version, describe(evidence))
        run_tags = (DECISION_TAG, TRAINING_RUN_TAG)
        mlflow.set_tags({name: tags[name] for name in run_tags if name in tags})
    return int(version), run_id, model_uri


def verify_version(reference: VersionReference) -> str:
    """Check on a hit that the registry still holds the version.

    Args:
        reference: What was registered.

    Returns:
        What is wrong; empty when nothing is.
    """
    from mlflow.exceptions import MlflowException

    client = connect()
    with store_errors():
        try:
            client.get_model_version(reference.name, str(reference.version))
            run = client.get_run(reference.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return f"version {reference.version} is no longer in the registry"
        if run.info.lifecycle_stage != "active":
            return f"run {reference.run_id} was deleted"
        if not has_model_files(client, reference.model_uri):
            return f"the files of version {reference.version} were deleted"
    return ""


@stage_task(
    timeout_seconds=6 * 3600,
    libraries=("mlflow", "transformers"),
    fingerprint=lambda _: without_secrets(tracking_uri()),
    verify=verify_version,
)
def register_model(output: OutputFolder, config: RunConfig, evidence: Evidence) -> VersionReference:
    """Register the tuned model with everything it rests on, whatever was decided of it.

    Args:
        output: Gets `version.json`.
        config: The resolved configuration, saved with the run.
        evidence: What the version rests on.

    Returns:
        Name and number of the version.
    """
    client = connect()
    with store_errors():
        fingerprint = output.key.digest
        name = config.registry.name
        found = find_version(client, name, fingerprint) or register(
            client, config, evidence, fingerprint
        )
    version, run_id, model_uri = found
    facts: dict[str, Any] = {
        "name": name,
        "version": version,
        "run_id": run_id,
        "model_uri": model_uri,
    }
    facts["tracking_uri"] = without_secrets(tracking_uri())
    (output.path / "version.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return output.commit(VersionReference, **facts)
