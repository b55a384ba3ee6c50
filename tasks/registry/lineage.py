"""Tags with the origin of a registered version."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import yaml

from schemas.config.run import RunConfig
from schemas.records.references import Evidence, Role
from schemas.rule_ids import SetRule
from tasks.engine.cache import locate
from tasks.engine.home import source_folder
from tasks.engine.keys import DERIVED, settings_parts
from tasks.engine.redaction import public_settings, without_folders
from tasks.registry import tags as tag
from tasks.registry.challenges import challenge_tags
from tasks.sources.mixture import public_title

GIT_SECONDS = 10.0
NOT_SETTINGS = ("registry", "retrain", "storage")
PLACE = re.compile(r"config settings\.data\.source(s\.[^.]+)?\.(source|config_name|split|revision)")
"""Where a data source is; a new file name with the same rows changes nothing."""


def version_fingerprint(name: str, evidence: Evidence) -> str:
    """Hash what identifies a result: name, model, data, evaluation rows, template and base.

    Neither decision nor gates count: a second decision on the same model, such as against a new
    champion, belongs to the same version.
    """
    parts = {
        "name": name,
        "model_sha256": evidence.trained.sha256,
        "dataset_sha256": evidence.checked.kept_sha256,
        "eval_sha256": evidence.quality.eval_sha256,
        "template_sha256": evidence.template.template_sha256,
        "base_fingerprint": evidence.template.model_fingerprint,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def config_text(config: RunConfig) -> str:
    """Return the resolved configuration as YAML, without the secrets in its addresses."""
    return yaml.safe_dump(public_settings(config.model_dump(mode="json")), sort_keys=False)


def settings_sha256(config: RunConfig) -> str:
    """Hash the settings that affect a model or its evaluation, as the keys of the stages see them.

    Where the rows of the training come from does not count, and neither does the signature of any
    address with rows, which may be another one each time.
    """
    sections = {name: part for name, part in config if name not in NOT_SETTINGS}
    settings = {
        name: text
        for name, text in settings_parts("settings", sections).items()
        if not name.startswith(DERIVED) and not PLACE.fullmatch(name)
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def lineage_tags(config: RunConfig, evidence: Evidence, run_id: str) -> dict[str, str]:
    """Return the tags of a version: origin and decision.

    Args:
        config: The resolved configuration.
        evidence: Outputs of the stages.
        run_id: MLflow run with the files of the version.

    Returns:
        Tag to text; without what is unknown.
    """
    tags = {
        tag.FINGERPRINT_TAG: version_fingerprint(config.registry.name, evidence),
        tag.DATASET_TAG: evidence.checked.kept_sha256,
        tag.DATASET_SOURCE_TAG: public_title(config.data.origin),
        tag.TRAIN_ROWS_TAG: str(evidence.quality.n_train_rows),
        tag.EVAL_ROWS_TAG: str(evidence.quality.n_eval_rows),
        tag.QUARANTINED_ROWS_TAG: str(evidence.checked.n_quarantined_rows),
        tag.DRIFT_TAG: _drift(evidence),
        tag.EVAL_SHA256_TAG: evidence.quality.eval_sha256,
        tag.EVAL_ROWS_SHA256_TAG: evidence.split.eval_sha256,
        tag.EVAL_IS_PINNED_TAG: str(evidence.split.is_pinned).lower(),
        tag.TEMPLATE_SHA256_TAG: evidence.template.template_sha256,
        tag.BASE_MODEL_TAG: without_folders(evidence.template.model_name),
        tag.BASE_REVISION_TAG: config.model.revision or "",
        tag.BASE_FINGERPRINT_TAG: evidence.template.model_fingerprint,
        tag.MODEL_TAG: evidence.trained.sha256,
        tag.SETTINGS_TAG: settings_sha256(config),
        tag.CONFIG_SHA256_TAG: hashlib.sha256(config_text(config).encode()).hexdigest(),
    }
    tags |= decision_tags(evidence, run_id) | code_tags(source_folder()) | flow_run_tags()
    return {name: shorten(text) for name, text in tags.items() if text}


def _drift(evidence: Evidence) -> str:
    found = (rule.observed for rule in evidence.quality.rules if rule.id == SetRule.DRIFT)
    drift = next(found, None)
    return "" if drift is None else repr(drift)


def decision_tags(evidence: Evidence, run_id: str) -> dict[str, str]:
    """Return the decision, the champion compared with, and the metrics.

    Args:
        evidence: Outputs of the stages.
        run_id: MLflow run with `gates.json`.

    Returns:
        Tag to text.
    """
    report = evidence.decision.report
    tags = {
        tag.DECISION_TAG: report.decision.value,
        tag.MODE_TAG: report.mode.value,
        tag.REASON_TAG: report.reason,
        tag.DECISION_SHA256_TAG: evidence.decision.sha256,
        tag.EVALUATED_AT_TAG: datetime.now(UTC).isoformat(timespec="seconds"),
        tag.CHAMPION_TAG: "none"
        if report.champion_version is None
        else str(report.champion_version),
        tag.GATES_TAG: f"runs:/{run_id}/gates.json",
    }
    if report.challenge:
        tags |= challenge_tags(report.challenge, locate(evidence.quality, "eval_prompts.jsonl"))
    for role, metrics in metrics_by_role(evidence).items():
        for metric, value in metrics.items():
            if value is not None:
                tags[f"{tag.METRIC_PREFIX}{role.value}.{metric}"] = repr(value)
    return tags


def metrics_by_role(evidence: Evidence) -> dict[Role, dict[str, float | None]]:
    """Collect the metrics of base, champion (if there is one) and challenger."""
    champion = evidence.champion.evaluation
    return {
        Role.BASE: dict(evidence.baseline.metrics),
        **({Role.CHAMPION: dict(champion.metrics)} if champion else {}),
        Role.CHALLENGER: dict(evidence.evaluation.metrics),
    }


def code_tags(source: Path) -> dict[str, str]:
    """Return the version of the package and, in a clone, the commit, with -dirty if files were changed."""
    tags = {tag.CODE_VERSION_TAG: importlib.metadata.version("sft-flow")}
    if (source / ".git").exists() and (commit := _ask_git(source, "rev-parse", "HEAD")):
        changes = _ask_git(source, "status", "--porcelain", "--untracked-files=no")
        tags[tag.CODE_COMMIT_TAG] = f"{commit}-dirty" if changes else commit
    return tags


def _ask_git(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            [git, "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""  # e.g. a clone that git does not trust
    return done.stdout.strip()


def flow_run_tags() -> dict[str, str]:
    """Return the id of the current flow run and, if there is one, its page; empty outside a flow run."""
    from prefect.runtime import flow_run
    from prefect.utilities.urls import url_for

    run_id = flow_run.get_id()
    if not run_id:
        return {}
    address = url_for("flow-run", obj_id=run_id)
    return {tag.FLOW_RUN_ID_TAG: str(run_id), tag.FLOW_RUN_URL_TAG: address or ""}


def shorten(text: str, n_characters: int = tag.MAX_TAG_CHARACTERS) -> str:
    """Shorten a text to the limit of the store; a shortened one ends with an ellipsis."""
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"
