"""Where a registered version comes from, in tags that can be searched."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from schemas.config.run import RunConfig
from schemas.records.references import Evidence, Role
from schemas.rule_ids import SetRule
from tasks.engine.home import source_folder
from tasks.engine.redaction import public_settings, without_folders
from tasks.registry.tags import (
    BASE_FINGERPRINT_TAG,
    BASE_MODEL_TAG,
    BASE_REVISION_TAG,
    CHAMPION_TAG,
    CODE_COMMIT_TAG,
    CODE_VERSION_TAG,
    CONFIG_SHA256_TAG,
    DATASET_SOURCE_TAG,
    DATASET_TAG,
    DECISION_SHA256_TAG,
    DECISION_TAG,
    DRIFT_TAG,
    EVAL_IS_PINNED_TAG,
    EVAL_ROWS_SHA256_TAG,
    EVAL_ROWS_TAG,
    EVAL_SHA256_TAG,
    EVALUATED_AT_TAG,
    FINGERPRINT_TAG,
    FLOW_RUN_ID_TAG,
    FLOW_RUN_URL_TAG,
    GATES_TAG,
    MAX_TAG_CHARACTERS,
    METRIC_PREFIX,
    MODE_TAG,
    MODEL_TAG,
    QUARANTINED_ROWS_TAG,
    REASON_TAG,
    SETTINGS_TAG,
    TEMPLATE_SHA256_TAG,
    TRAIN_ROWS_TAG,
)
from tasks.sources.mixture import public_title

GIT_SECONDS = 10.0
NOT_SETTINGS = {"registry": True, "retrain": True}
PLACES = ("source", "config_name", "split", "revision")
"""Fields of a data source that say where rows lie; a new file name with old rows changes nothing."""


def version_fingerprint(name: str, evidence: Evidence) -> str:
    """Name a result: what was trained, on what, from what, and judged on what.

    Neither decision nor gates count: a second decision on the same model, say against a new
    champion, is one more thing known of the same version.

    Args:
        name: Registered model name.
        evidence: What the version rests on.

    Returns:
        Hexadecimal sha256.
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
    """Write the resolved configuration without the secrets of its addresses.

    Args:
        config: The resolved configuration.

    Returns:
        YAML; what is stored as `config.yaml`.
    """
    return yaml.safe_dump(public_settings(config.model_dump(mode="json")), sort_keys=False)


def settings_sha256(config: RunConfig) -> str:
    """Name the settings that shape and judge a model, without the places its rows come from.

    Args:
        config: The resolved configuration.

    Returns:
        Hexadecimal sha256.
    """
    settings: dict[str, Any] = config.model_dump(mode="json", exclude=NOT_SETTINGS)
    data = settings["data"]
    for source in (data["source"], *data["sources"].values()):
        for field in PLACES:
            del source[field]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def lineage_tags(config: RunConfig, evidence: Evidence, run_id: str) -> dict[str, str]:
    """Say where a version comes from and what was decided of it.

    Args:
        config: The resolved configuration.
        evidence: What the version rests on.
        run_id: MLflow run that holds the files of the version.

    Returns:
        Tag name to text; what is not known is left out.
    """
    tags = {
        FINGERPRINT_TAG: version_fingerprint(config.registry.name, evidence),
        DATASET_TAG: evidence.checked.kept_sha256,
        DATASET_SOURCE_TAG: public_title(config.data.origin),
        TRAIN_ROWS_TAG: str(evidence.quality.n_train_rows),
        EVAL_ROWS_TAG: str(evidence.quality.n_eval_rows),
        QUARANTINED_ROWS_TAG: str(evidence.checked.n_quarantined_rows),
        DRIFT_TAG: _drift(evidence),
        EVAL_SHA256_TAG: evidence.quality.eval_sha256,
        EVAL_ROWS_SHA256_TAG: evidence.split.eval_sha256,
        EVAL_IS_PINNED_TAG: str(evidence.split.is_pinned).lower(),
        TEMPLATE_SHA256_TAG: evidence.template.template_sha256,
        BASE_MODEL_TAG: without_folders(evidence.template.model_name),
        BASE_REVISION_TAG: config.model.revision or "",
        BASE_FINGERPRINT_TAG: evidence.template.model_fingerprint,
        MODEL_TAG: evidence.trained.sha256,
        SETTINGS_TAG: settings_sha256(config),
        CONFIG_SHA256_TAG: hashlib.sha256(config_text(config).encode()).hexdigest(),
    }
    tags |= decision_tags(evidence, run_id) | code_tags(source_folder()) | flow_run_tags()
    return {name: shorten(text) for name, text in tags.items() if text}


def _drift(evidence: Evidence) -> str:
    found = (rule.observed for rule in evidence.quality.rules if rule.id == SetRule.DRIFT)
    drift = next(found, None)
    return "" if drift is None else repr(drift)


def decision_tags(evidence: Evidence, run_id: str) -> dict[str, str]:
    """Say what was decided, against whom, and on which figures.

    Args:
        evidence: What the decision rests on.
        run_id: MLflow run that holds `gates.json`.

    Returns:
        Tag name to text.
    """
    report = evidence.decision.report
    tags = {
        DECISION_TAG: report.decision.value,
        MODE_TAG: report.mode.value,
        REASON_TAG: report.reason,
        DECISION_SHA256_TAG: evidence.decision.sha256,
        EVALUATED_AT_TAG: datetime.now(UTC).isoformat(timespec="seconds"),
        CHAMPION_TAG: "none" if report.champion_version is None else str(report.champion_version),
        GATES_TAG: f"runs:/{run_id}/gates.json",
    }
    for role, metrics in metrics_by_role(evidence).items():
        for metric, value in metrics.items():
            if value is not None:
                tags[f"{METRIC_PREFIX}{role.value}.{metric}"] = repr(value)
    return tags


def metrics_by_role(evidence: Evidence) -> dict[Role, dict[str, float | None]]:
    """Collect the figures of every model that was judged.

    Args:
        evidence: What the stages produced.

    Returns:
        Metrics of base, champion (where there is one) and challenger.
    """
    champion = evidence.champion.evaluation
    return {
        Role.BASE: dict(evidence.baseline.metrics),
        **({Role.CHAMPION: dict(champion.metrics)} if champion else {}),
        Role.CHALLENGER: dict(evidence.evaluation.metrics),
    }


def code_tags(source: Path) -> dict[str, str]:
    """Name the code that made the version.

    Args:
        source: Folder of this product's packages.

    Returns:
        The package's version; run from a clone, also the commit, with -dirty after it when files
        under version control were changed.
    """
    tags = {CODE_VERSION_TAG: importlib.metadata.version("sft-flow")}
    if (source / ".git").exists() and (commit := _ask_git(source, "rev-parse", "HEAD")):
        changes = _ask_git(source, "status", "--porcelain", "--untracked-files=no")
        tags[CODE_COMMIT_TAG] = f"{commit}-dirty" if changes else commit
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
        return ""  # a clone that git does not trust or cannot read names no commit
    return done.stdout.strip()


def flow_run_tags() -> dict[str, str]:
    """Name the flow run at work.

    Returns:
        Its id, and its page where the Prefect server has one; nothing outside a flow run.
    """
    from prefect.runtime import flow_run
    from prefect.utilities.urls import url_for

    run_id = flow_run.get_id()
    if not run_id:
        return {}
    address = url_for("flow-run", obj_id=run_id)
    return {FLOW_RUN_ID_TAG: str(run_id), FLOW_RUN_URL_TAG: address or ""}


def shorten(text: str, n_characters: int = MAX_TAG_CHARACTERS) -> str:
    """Cut a text to what the store can hold.

    Args:
        text: Any text.
        n_characters: Longest text allowed.

    Returns:
        The text; cut off, it ends with an ellipsis.
    """
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"
