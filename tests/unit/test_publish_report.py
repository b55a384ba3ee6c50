"""The report's parts, without a run."""

from __future__ import annotations

import pytest

from tasks.publish_report import loss_points, pair_answers, render_page, summarise

pytestmark = pytest.mark.unit


def toy_report() -> dict[str, object]:
    metrics = {"loss": 1.0, "exact_match": None}
    return {
        "decision": "refuse",
        "reason": "a tie",
        "gates": [],
        "metrics": {"base": metrics, "tuned": metrics},
        "answers": [{"prompt": "<script>x</script>", "reference": "r", "base": "b", "tuned": "t"}],
        "data": {
            "source": "s", "n_rows": 3, "n_kept_rows": 2, "n_quarantined_rows": 1,
            "n_train_rows": 1, "n_eval_rows": 1, "n_train_tokens": 9, "n_supervised_tokens": 4,
            "rules": [],
        },
        "training": {
            "method": "lora", "device": "cpu", "n_steps": 2, "n_tokens_seen": 9,
            "tokens_per_second": 1.0, "first_loss": 2.0, "last_loss": 1.0,
        },
        "registry": {
            "name": "n", "version": 1, "alias": "champion", "is_promoted": False, "run_id": "r",
        },
        "lineage": {"dataset_sha256": "d"},
    }  # fmt: skip


def test_loss_points_span_the_drawing_area() -> None:
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 9.0}, {"step": 3, "loss": 1.0}]
    assert loss_points(history) == "0.0,0.0 640.0,180.0"
    assert loss_points(history[:1]) == ""


def test_pair_answers_shows_the_question_as_it_was_asked() -> None:
    base = [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": "b"}]
    tuned = [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": "t"}]
    assert pair_answers(base, tuned, [{"row": 4, "prompt": "<s>Why?</s>", "question": "Why?"}]) == [
        {"prompt": "Why?", "reference": "r", "base": "b", "tuned": "t"}
    ]


def test_render_page_escapes_what_comes_from_the_data() -> None:
    page = render_page(toy_report(), [])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "refused" in page
    assert "http" not in page.split("</style>")[1]


def test_summarise_shows_missing_figures_as_a_dash() -> None:
    assert "| exact_match | - | - |" in summarise(toy_report())
