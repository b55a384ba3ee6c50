"""The stages of the flow, in the order they run."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """A stage, by name: its task, its file in `tasks/` and its folder in the work directory."""

    LOAD_DATASET = "load_dataset"
    PREPARE_TEMPLATE = "prepare_template"
    CHECK_SCHEMA = "check_schema"
    SPLIT_DATASET = "split_dataset"
    CHECK_QUALITY = "check_quality"
    GENERATE_BASELINE = "generate_baseline"
    TRAIN_MODEL = "train_model"
    EVALUATE_MODEL = "evaluate_model"
    EVALUATE_CHAMPION = "evaluate_champion"
    DECIDE = "decide"
    REGISTER_MODEL = "register_model"
    PROMOTE_MODEL = "promote_model"
    PUBLISH_REPORT = "publish_report"
