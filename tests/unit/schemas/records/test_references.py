from __future__ import annotations

from schemas.records.references import QualityReference, SourceTokens
from schemas.rule_ids import Verdict


def quality(*sources: SourceTokens) -> QualityReference:
    return QualityReference(
        stage="check_quality",
        folder="",
        sha256="",
        verdict=Verdict.PASSED,
        n_train_rows=30,
        n_eval_rows=3,
        n_train_tokens=1000,
        n_supervised_tokens=400,
        eval_sha256="",
        sources=sources,
        rules=(),
    )


def test_epoch_sees_each_source_as_often_as_its_weight_says() -> None:
    assert (quality().n_epoch_rows, quality().n_epoch_tokens) == (30, 1000)
    weighted = quality(
        SourceTokens(name="a", weight=2.0, n_rows=10, n_tokens=300),
        SourceTokens(name="b", weight=0.5, n_rows=20, n_tokens=700),
    )
    assert (weighted.n_epoch_rows, weighted.n_epoch_tokens) == (30, 950)
