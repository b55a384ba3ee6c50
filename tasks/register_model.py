"""Stage `register_model`: one MLflow run and one model version, with the lineage in its tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger

from schemas.config.run import ModelConfig, RunConfig
from schemas.errors import RegistryError
from schemas.records.decision import Decision
from schemas.records.references import Evidence, VersionReference
from schemas.records.stages import Stage
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.files import write_atomic
from tasks.engine.home import store_name
from tasks.engine.stage import is_refreshed, stage_task
from tasks.registry.aliases import settled_aliases
from tasks.registry.lineage import version_fingerprint
from tasks.registry.store import (
    FoundVersion,
    connect,
    create_version,
    experiment_id,
    find_version,
    has_model_files,
    store_errors,
)
from tasks.registry.tags import (
    DECISION_SHA256_TAG,
    DECISION_TAG,
    FINGERPRINT_TAG,
    METRIC_PREFIX,
    TRAINING_RUN_TAG,
    WEIGHTS_TAG,
)
from tasks.release.chat_model import log_chat_model, put_back_files
from tasks.release.licence import find_licence
from tasks.release.model_card import CardFacts, card_facts, description
from tasks.release.registration import discard_run, registering
from tasks.release.run_files import log_adapter, log_decision, log_training, version_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register(
    client: MlflowClient, config: RunConfig, evidence: Evidence, card: CardFacts, note: Path
) -> FoundVersion:
    """Create the run, the logged model and the version; `note` gets the id of the run."""
    import mlflow

    name = config.registry.name
    experiment = experiment_id(client, config.registry.experiment)
    with mlflow.start_run(experiment_id=experiment, run_name=name) as run:
        run_id = str(run.info.run_id)
        write_atomic(note, run_id)
        log_training(client, run_id, config, evidence)
        log_decision(client, run_id, config, evidence, card)
        model_uri = log_chat_model(config, locate(evidence.trained, "model"))
        tags = version_tags(config, evidence, run_id, card)
        client.set_tag(run_id, DECISION_TAG, tags[DECISION_TAG])
        if TRAINING_RUN_TAG in tags:
            client.set_tag(run_id, TRAINING_RUN_TAG, tags[TRAINING_RUN_TAG])
        number = create_version(client, name, (run_id, model_uri), tags, description(card))
    made = FoundVersion(number, run_id, model_uri, tags)
    first = find_version(client, name, tags[FINGERPRINT_TAG]) or made
    if first.version != number:  # another machine on the same store was faster
        client.delete_model_version(name, str(number))
        discard_run(client, run_id)
    return first


def update_version(
    client: MlflowClient,
    config: RunConfig,
    evidence: Evidence,
    card: CardFacts,
    found: FoundVersion,
) -> None:
    """Update a version that is already registered with the new decision.

    The files of the model are written again if they are missing and the model may still be used, or
    if the stage is refreshed on request.
    """
    name, number = config.registry.name, str(found.version)
    if client.get_run(found.run_id).info.lifecycle_stage != "active":
        client.restore_run(found.run_id)
    tags = version_tags(config, evidence, found.run_id, card)
    log_decision(client, found.run_id, config, evidence, card)
    for tag, text in tags.items():  # before the files: those of a refused version may be deleted
        if found.tags.get(tag) != text:
            client.set_model_version_tag(name, number, tag, text)
    for tag in found.tags.keys() - tags.keys():
        if tag.startswith(METRIC_PREFIX):  # e.g. of a champion that no longer exists
            client.delete_model_version_tag(name, number, tag)
    client.update_model_version(name, number, description(card))
    client.set_tag(found.run_id, DECISION_TAG, tags[DECISION_TAG])
    is_given_up = WEIGHTS_TAG in found.tags and tags[DECISION_TAG] == Decision.REFUSE.value
    is_gone = WEIGHTS_TAG in found.tags or not has_model_files(client, found.model_uri)
    if is_refreshed(Stage.REGISTER_MODEL) or (is_gone and not is_given_up):
        with settled_aliases(client, name):
            put_back_files(client, config, locate(evidence.trained, "model"), found)
            log_adapter(client, found.run_id, evidence.trained)
            if WEIGHTS_TAG in client.get_model_version(name, number).tags:
                client.delete_model_version_tag(name, number, WEIGHTS_TAG)


def verify_version(reference: VersionReference) -> str:
    """Check on a cache hit that the registry still has the version with this decision.

    Args:
        reference: The registered version.

    Returns:
        What is wrong; empty if nothing is. A refused version does not need its weights.
    """
    from mlflow.exceptions import MlflowException

    client = connect()
    number = reference.version
    with store_errors():
        try:
            version = client.get_model_version(reference.name, str(number))
            run = client.get_run(reference.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return f"version {number} is no longer in the registry"
        if run.info.lifecycle_stage != "active":
            return f"run {reference.run_id} was deleted"
        facts = json.loads(locate(reference, "version.json").read_text(encoding="utf-8"))
        if version.tags.get(DECISION_SHA256_TAG) != facts["decision_sha256"]:
            return f"version {number} has another decision now"
        if WEIGHTS_TAG in version.tags:
            is_refused = version.tags.get(DECISION_TAG) == Decision.REFUSE.value
            return "" if is_refused else f"the weights of version {number} were deleted"
        if not has_model_files(client, reference.model_uri):
            return f"the files of version {number} were deleted"
    return ""


def _refuse_unevaluated(evidence: Evidence) -> None:
    if evidence.decision.decision is Decision.SKIPPED:
        raise RegistryError(
            "no gates ran, so nothing is registered",
            where="gates.mode=off",
            expected="a decision to promote or to refuse",
            got=evidence.decision.decision.value,
            fix="set gates.mode=enforce, or dry_run to register without promoting",
        )


@stage_task(
    timeout_seconds=6 * 3600,
    libraries=("mlflow",),
    fingerprint=lambda _: store_name(),
    verify=verify_version,
)
def register_model(output: OutputFolder, config: RunConfig, evidence: Evidence) -> VersionReference:
    """Register the challenger with all its evidence, whatever the decision.

    The same model, data, evaluation set and base give the same version: a second decision updates
    it.

    Args:
        output: Gets `version.json`.
        config: The resolved configuration, saved with the run.
        evidence: Outputs of the stages.

    Returns:
        Name and number of the version.
    """
    _refuse_unevaluated(evidence)
    client, name = connect(), config.registry.name
    base = ModelConfig(source=evidence.template.model_name, revision=config.model.revision)
    card = card_facts(config, evidence, find_licence(base))
    fingerprint = version_fingerprint(name, evidence)
    with store_errors(), registering(client, fingerprint) as note:
        found = find_version(client, name, fingerprint)
        version = found or register(client, config, evidence, card, note)
        if found or version.tags[DECISION_SHA256_TAG] != evidence.decision.sha256:
            update_version(client, config, evidence, card, version)
            get_run_logger().info(
                "version %d of %s is this model already; its decision was updated",
                version.version,
                name,
            )
        run = client.get_run(version.run_id)
    facts: dict[str, Any] = {
        "name": name,
        "version": version.version,
        "run_id": version.run_id,
        "experiment_id": str(run.info.experiment_id),
        "model_uri": version.model_uri,
        "tracking_uri": store_name(),
    }
    noted = facts | {"decision_sha256": evidence.decision.sha256}
    (output.path / "version.json").write_text(json.dumps(noted, indent=1), encoding="utf-8")
    return output.commit(VersionReference, **facts)
