"""Toy reports and histories, as a run would write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.registry.history import History, Retrain
from tasks.registry.rejections import Rejection
from tasks.training.plan.batching import Batching
from tasks.training.process.spec import TrainingFacts


def toy_training(**changes: object) -> dict[str, object]:
    facts = TrainingFacts(
        device="cpu",
        n_steps=1200,
        n_tokens_seen=9000,
        n_supervised_tokens_per_epoch=4000,
        first_loss=2.0,
        last_loss=1.0,
        n_trainable_parameters=5000,
        resumed_from_step=0,
        batching=Batching(per_device=2, accumulation=4),
        choices={"packing": "on: rows are short <b>"},
        notes=("the batch was halved",),
        seconds=60.04,
        tokens_per_second=150.4,
        peak_memory_bytes=3 * 2**20,
    )
    return {"method": "lora", **facts.model_dump(mode="json"), **changes}


def toy_report(**changes: Any) -> dict[str, Any]:
    metrics = {"loss": 1.0, "exact_match": None}
    answer = {"prompt": "<script>x</script>", "reference": "r", "base": "b", "challenger": "t"}
    return {
        "decision": "refuse",
        "mode": "enforce",
        "reason": "a tie",
        "retrain": None,
        "judge": {},
        "training_rows": [],
        "timings": {"flow_run_id": None, "flow_run_url": None, "stages": []},
        "gates": [],
        "confidence": 0.95,
        "metrics": {"base": metrics, "challenger": metrics},
        "intervals": {"base": {}, "champion": {}, "challenger": {"loss": (0.75, 1.25)}},
        "answers": [answer],
        "slices": {},
        "worst_slice": None,
        "base_was_better": [],
        "data": {
            "source": "s", "n_rows": 3, "n_kept_rows": 2, "n_quarantined_rows": 1,
            "n_train_rows": 1, "n_eval_rows": 1, "n_train_tokens": 9, "n_supervised_tokens": 4,
            "rules": [],
        },
        "training": toy_training(),
        "registry": {
            "name": "n", "version": 1, "alias": "champion", "is_promoted": False, "run_id": "r", "experiment_id": "1",
            "previous_version": None, "compared_with_version": None, "n_freed_bytes": 0,
        },
        "lineage": {"dataset_sha256": "d"},
        "config": {"gates": {"confidence": 0.95}},
        **changes,
    }  # fmt: skip


def gate(**changes: Any) -> dict[str, Any]:
    return {
        "id": "loss_below_base",
        "metric": "loss",
        "against": "base",
        "opponent": 3.0,
        "challenger": 2.5,
        "gain": 0.5,
        "interval_low": 0.25,
        "interval_high": 1.0,
        "confidence": 0.975,
        "limit": 0.0,
        "severity": "block",
        "verdict": "passed",
        "reason": "r",
        **changes,
    }


def retrain(version: int, loss: float | None, **facts: Any) -> Retrain:
    known: dict[str, Any] = {
        "version": version,
        "judged_at": datetime(2026, 11, version, tzinfo=UTC),
        "decision": "promote",
        "reason": "better",
        "promoted_at": "2026-11-01",
        "compared_with": "none",
        "loss": loss,
        "champion_loss": None,
        "base_loss": 4.0,
        "n_train_rows": 100 * version,
        "n_quarantined_rows": 0,
        "drift": None,
        "eval_sha256": "a",
    }
    return Retrain.model_validate(known | facts)


def refused(version: int, loss: float) -> Retrain:
    return retrain(version, loss, decision="refuse", promoted_at="", reason="worse <b>")


def toy_history() -> History:
    rejection = Rejection(
        rows_sha256="r", stage_key="s", n_rows=190, reason="30 of 190 rows <i>", evidence="x"
    )
    return History(
        name="toy",
        champion_version=3,
        retrains=(
            retrain(1, 3.0),
            refused(2, 3.5),
            retrain(3, 2.5, drift=0.125, aliases=("champion",)),
        ),
        rejections=(rejection,),
    )
