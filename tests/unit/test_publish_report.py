"""The report's parts, without a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks._training_spec import Batching, TrainingFacts
from tasks.publish_report import (
    embed_curve,
    pair_answers,
    render_page,
    summarise,
    training_figures,
)

pytestmark = pytest.mark.unit


CURVE = {"source": "data:image/svg+xml;base64,PHN2Zy8+", "text": "from 2 to 1"}


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
        "training": toy_training(),
        "registry": {
            "name": "n", "version": 1, "alias": "champion", "is_promoted": False, "run_id": "r",
        },
        "lineage": {"dataset_sha256": "d"},
    }  # fmt: skip


def test_embed_curve_holds_the_picture_and_its_words(tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    picture.write_text("<svg/>", encoding="utf-8")
    embedded = embed_curve(picture, [{"step": 1, "loss": 2.0}])
    assert embedded["source"] == "data:image/svg+xml;base64,PHN2Zy8+"
    assert embedded["text"].startswith("Training loss from 2.000 at step 1")


def test_training_figures_are_in_units_people_read() -> None:
    assert training_figures(toy_training()) == {
        "device": "cpu",
        "steps": "1,200",
        "tokens": "9,000",
        "tokens per second": "150",
        "seconds": "60.0",
        "peak memory": "3 MiB",
        "trained parameters": "5,000",
        "batch": "2 sequences x 4 accumulated x 1 processes",
        "loss": "2.0000 → 1.0000",
    }
    rest = training_figures(
        toy_training(best_step=40, best_validation_loss=1.25, resumed_from_step=20)
    )
    assert rest["model is of step"] == "40"
    assert rest["lowest validation loss"] == "1.2500"
    assert rest["resumed from step"] == "20"


def test_render_page_shows_the_training() -> None:
    page = render_page(toy_report(), CURVE)
    assert '<img src="data:image/svg+xml;base64,PHN2Zy8+" alt="from 2 to 1">' in page
    assert "the batch was halved" in page
    assert "<th>packing</th><td>on: rows are short &lt;b&gt;</td>" in page
    assert "3 MiB" in page


def test_pair_answers_shows_the_question_as_it_was_asked() -> None:
    base = [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": "b"}]
    tuned = [{"row": 4, "prompt": "<s>Why?</s>", "reference": "r", "answer": "t"}]
    assert pair_answers(base, tuned, [{"row": 4, "prompt": "<s>Why?</s>", "question": "Why?"}]) == [
        {"prompt": "Why?", "reference": "r", "base": "b", "tuned": "t"}
    ]


def test_render_page_escapes_what_comes_from_the_data() -> None:
    page = render_page(toy_report(), CURVE)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "refused" in page
    assert "http" not in page.split("</style>")[1]


def test_summarise_shows_missing_figures_as_a_dash() -> None:
    assert "| exact_match | - | - |" in summarise(toy_report())
