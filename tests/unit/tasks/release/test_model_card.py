from __future__ import annotations

from typing import Any

import pytest
import yaml

from tasks.release.model_card import (
    MAX_DESCRIPTION_CHARACTERS,
    description,
    gates_table,
    metrics_table,
    model_card,
    readme,
)


@pytest.fixture
def facts() -> dict[str, Any]:
    return {
        "name": "faq",
        "base_model": "someone/small",
        "base_hub_id": "someone/small",
        "base_fingerprint": "c0ffee",
        "licence": "apache-2.0",
        "data": {
            "source": "rows.jsonl",
            "sha256": "abc",
            "n_rows": 1200,
            "n_quarantined_rows": 3,
            "formats": {"messages": 1200},
            "n_train_rows": 1000,
            "n_train_tokens": 50_000,
            "languages": {"en": 90, "de": 10},
            "asked_languages": [],
            "max_length_tokens": 1024,
        },
        "training": {
            "method": "lora",
            "learning_rate": 0.0005,
            "seed": 42,
            "n_steps": 60,
            "n_tokens_seen": 50_000,
            "n_trainable_parameters": 1234,
            "device": "cpu",
        },
        "evaluation": {"n_rows": 100, "n_answers": 12, "max_new_tokens": 48, "is_pinned": False},
        "metrics": {"base": {"loss": 2.5}, "challenger": {"loss": 1.25, "chrf": None}},
        "report": {
            "decision": "promote",
            "reason": "every gate passed",
            "confidence": 0.95,
            "gates": [
                {
                    "id": "loss_below_base",
                    "metric": "loss",
                    "against": "base",
                    "gain": 1.25,
                    "interval_low": 1.0,
                    "interval_high": 1.5,
                    "confidence": 0.975,
                    "verdict": "passed",
                    "reason": "above | 0",
                }
            ],
        },
    }


def test_metrics_have_a_column_per_role() -> None:
    table = metrics_table({"base": {"loss": 2.5}, "challenger": {"loss": 1.25, "chrf": None}})
    assert table.splitlines() == [
        "| metric | base | challenger |",
        "| --- | --- | --- |",
        "| loss | 2.500 | 1.250 |",
        "| chrf | - | - |",
    ]


def test_gates_show_gain_and_interval(facts: dict[str, Any]) -> None:
    lines = gates_table(facts["report"]).splitlines()
    assert lines[0] == "| gate | metric | against | gain with interval | verdict | reason |"
    assert lines[2] == (
        "| loss_below_base | loss | base | +1.250 [1, 1.500] (97.5 %) | passed | above \\| 0 |"
    )
    assert gates_table({"gates": []}) == ""


def test_card_has_data_training_metrics_limits_and_loading(facts: dict[str, Any]) -> None:
    text = model_card(facts)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# faq",
        "## Metrics",
        "## Data",
        "## Training",
        "## Limits",
        "## How to load",
    ]
    assert "- rows: 1,200, of which 3 were quarantined" in text
    assert "Method lora, 60 steps, 50,000 tokens seen, learning rate 0.0005" in text
    assert "- Languages of the data: en, de; others were not tested." in text
    assert "held out of the training data" in text
    assert 'mlflow.pyfunc.load_model("models:/faq/VERSION")' in text


def test_card_names_what_was_not_checked(facts: dict[str, Any]) -> None:
    facts["data"]["languages"] = {}
    facts["evaluation"]["is_pinned"] = True
    text = model_card(facts)
    assert "- The language of the data was not checked." in text
    assert "come from a separate set" in text


def test_readme_has_front_matter_of_what_is_known(facts: dict[str, Any]) -> None:
    facts["data"]["asked_languages"] = ["en"]
    front = yaml.safe_load(readme(facts).split("---\n")[1])
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sft", "conversational"],
        "license": "apache-2.0",
        "language": ["en"],
        "base_model": "someone/small",
    }


def test_readme_invents_no_licence(facts: dict[str, Any]) -> None:
    facts |= {"licence": "", "base_hub_id": ""}
    front = yaml.safe_load(readme(facts).split("---\n")[1])
    assert set(front) == {"library_name", "pipeline_tag", "tags"}


def test_description_fits_the_store(facts: dict[str, Any]) -> None:
    assert description(facts) == model_card(facts)
    facts["report"]["reason"] = "because " * 1000
    assert len(description(facts)) == MAX_DESCRIPTION_CHARACTERS
