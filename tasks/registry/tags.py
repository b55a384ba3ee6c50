"""Names of the tags that versions, models and runs carry in MLflow."""

from __future__ import annotations

MODEL_TAG = "sft.model_sha256"
"""Tag of a version: sha256 of the model, as the run that registered it knew it."""

PROMOTED_BY_TAG = "sft.promoted_by"
PROMOTED_AT_TAG = "sft.promoted_at"
PROMOTION_REASON_TAG = "sft.promotion_reason"

TRAINING_RUN_TAG = "sft.training_run_id"
"""The training's own run. It is another one: several versions may come of one training."""
ADAPTER_TAG = "sft.adapter"

LICENCE_TAG = "sft.base_licence"

JOURNAL_TAG = "sft.alias_transaction"
"""Tag of the registered model while aliases move: who held each of them before, as JSON."""

LEASE_TAG = "sft.promotion_lease"
"""Tag of the registered model: who moves its aliases, from where, and until when."""

DATASET_TAG = "sft.dataset_sha256"

FINGERPRINT_TAG = "sft.fingerprint"
"""Tag of a model version: what result it holds; one version for each."""
WEIGHTS_TAG = "sft.weights"
"""Tag of a model version whose weights were given up: deleting, then deleted."""

DECISION_TAG = "sft.decision"
DECISION_SHA256_TAG = "sft.decision_sha256"
"""Of the gate report; tells which of several decisions on one model the version carries."""
MODE_TAG = "sft.decision_mode"
CHAMPION_TAG = "sft.champion_version"
"""Version the challenger was compared with; none where there was no champion."""
GATES_TAG = "sft.gates"
SETTINGS_TAG = "sft.settings_sha256"
"""Of everything that shapes a model but the rows: they are compared by content."""
JUDGED_AT_TAG = "sft.judged_at"
DRIFT_TAG = "sft.drift"
"""Population stability index against the champion's rows, as rule drift found it."""
METRIC_PREFIX = "sft.metric."
"""Followed by side and metric, e.g. sft.metric.challenger.loss."""
MAX_TAG_CHARACTERS = 5000
"""Width of the column in MLflow's SQL stores; MLflow itself lets more through and then fails."""
