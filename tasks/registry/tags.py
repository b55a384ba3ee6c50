"""Names of the tags of versions, registered models and runs in MLflow."""

from __future__ import annotations

MAX_TAG_CHARACTERS = 5000
"""Width of the column in MLflow's SQL stores; MLflow itself accepts more and then fails."""

# Result: what a version is
FINGERPRINT_TAG = "sft.fingerprint"
"""Hash that identifies a result; one version for each."""
MODEL_TAG = "sft.model_sha256"
"""Of the model, computed by the run that registered it."""
WEIGHTS_TAG = "sft.weights"
"""Set when the weights are deleted: deleting, then deleted."""
ADAPTER_TAG = "sft.adapter"
"""Address of the LoRA adapter, runs:/<id>/adapter."""
TRAINING_RUN_TAG = "sft.training_run_id"
"""Run of the training, not of the version: several versions may come from one training."""
TRAINING_FINGERPRINT_TAG = "sft.training_fingerprint"

# Data
DATASET_TAG = "sft.dataset_sha256"
"""Of the kept rows."""
DATASET_SOURCE_TAG = "sft.dataset_source"
TRAIN_ROWS_TAG = "sft.train_rows"
QUARANTINED_ROWS_TAG = "sft.quarantined_rows"
EVAL_ROWS_TAG = "sft.eval_rows"
EVAL_SHA256_TAG = "sft.eval_sha256"
"""Of the rendered evaluation rows and prompts."""
EVAL_ROWS_SHA256_TAG = "sft.eval_rows_sha256"
"""Of eval.jsonl, before rendering."""
EVAL_IS_PINNED_TAG = "sft.eval_is_pinned"
DRIFT_TAG = "sft.drift"
"""Population stability index against the champion's rows, as measured by rule drift."""

# Model and settings
BASE_MODEL_TAG = "sft.base_model"
BASE_REVISION_TAG = "sft.base_revision"
BASE_FINGERPRINT_TAG = "sft.base_fingerprint"
LICENCE_TAG = "sft.base_licence"
TEMPLATE_SHA256_TAG = "sft.template_sha256"
SETTINGS_TAG = "sft.settings_sha256"
"""Of all settings that affect a model, without the place of its rows, which are compared by content."""
CONFIG_SHA256_TAG = "sft.config_sha256"
"""Of config.yaml."""
CODE_VERSION_TAG = "sft.code_version"
CODE_COMMIT_TAG = "sft.code_commit"

# Decision and promotion
DECISION_TAG = "sft.decision"
REASON_TAG = "sft.reason"
MODE_TAG = "sft.decision_mode"
DECISION_SHA256_TAG = "sft.decision_sha256"
"""Of the decision report; identifies the last of several decisions on a version."""
EVALUATED_AT_TAG = "sft.judged_at"
CHAMPION_TAG = "sft.champion_version"
"""Version the challenger was compared with, or none."""
GATES_TAG = "sft.gates"
"""Address of gates.json."""
METRIC_PREFIX = "sft.metric."
"""Followed by role and metric, e.g. sft.metric.challenger.loss."""
PROMOTED_BY_TAG = "sft.promoted_by"
PROMOTED_AT_TAG = "sft.promoted_at"
PROMOTION_REASON_TAG = "sft.promotion_reason"

# Registered model, while its aliases move
JOURNAL_TAG = "sft.alias_transaction"
"""Previous version of each alias, as JSON."""
LEASE_TAG = "sft.promotion_lease"
"""Process that moves the aliases, its home, and its deadline, as JSON."""

# Runs
FLOW_RUN_ID_TAG = "sft.flow_run_id"
FLOW_RUN_URL_TAG = "sft.flow_run_url"
SOURCE_TAG = "sft.source"
STAGE_TAG = "sft.stage"
ERROR_TAG = "sft.error"
SWEEP_TAG = "sft.sweep"
TRIAL_TAG = "sft.trial"
