"""The model card of a version, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from schemas.config.run import RunConfig, seed_of
from schemas.records.references import Evidence
from tasks.engine.cache import locate
from tasks.engine.markdown import code, inline
from tasks.engine.redaction import without_folders
from tasks.engine.wording import interval, number, share, signed_number
from tasks.registry.lineage import metrics_by_role, shorten
from tasks.sources.hub import HUB_ID
from tasks.sources.mixture import public_title

MAX_DESCRIPTION_CHARACTERS = 5000
"""Width of the column in MLflow's SQL stores."""
CardFacts = Mapping[str, Any]
"""What `card_facts` collects; plain values, stored as JSON next to the card."""


def card_facts(config: RunConfig, evidence: Evidence, licence: str) -> dict[str, Any]:
    """Collect the contents of the card as plain values.

    Args:
        config: The resolved configuration.
        evidence: Outputs of the stages that made the version.
        licence: Of the base model; empty where it is not known.

    Returns:
        What `model_card` and `readme` take.
    """
    profile = json.loads(locate(evidence.quality, "profile.json").read_text(encoding="utf-8"))
    return {
        "name": config.registry.name,
        "base_model": without_folders(evidence.template.model_name),
        "base_hub_id": _hub_id(evidence.template.model_name),
        "base_fingerprint": evidence.template.model_fingerprint,
        "licence": licence,
        "data": {
            "source": public_title(config.data.origin),
            "sha256": evidence.checked.kept_sha256,
            **evidence.checked.model_dump(include={"n_rows", "n_quarantined_rows", "formats"}),
            **evidence.quality.model_dump(include={"n_train_rows", "n_train_tokens"}),
            "languages": profile.get("languages", {}),
            "asked_languages": list(config.quality.languages),
            "max_length_tokens": config.quality.max_length_tokens,
        },
        "training": {
            "method": config.training.method.value,
            "learning_rate": config.training.learning_rate,
            "seed": seed_of(config, config.training),
            **evidence.trained.model_dump(
                include={"n_steps", "n_tokens_seen", "n_trainable_parameters", "device"}
            ),
        },
        "evaluation": {
            "n_rows": evidence.evaluation.n_rows,
            "n_answers": evidence.evaluation.n_answers,
            "max_new_tokens": config.evaluation.max_new_tokens,
            "is_pinned": evidence.split.is_pinned,
        },
        "metrics": {role.value: found for role, found in metrics_by_role(evidence).items()},
        "report": evidence.decision.report.model_dump(mode="json"),
    }


def _hub_id(source: str) -> str:
    is_id = HUB_ID.fullmatch(source) and not Path(source).exists()
    return source if is_id else ""


def model_card(facts: CardFacts) -> str:
    """Write the card without front matter: metrics, data, training, limits, how to load it."""
    parts = [
        f"# {facts['name']}",
        f"Fine-tuned from {code(facts['base_model'])}.",
        f"**{facts['report']['decision']}**: {inline(facts['report']['reason'])}",
        "## Metrics",
        metrics_table(facts["metrics"]),
        gates_table(facts["report"]),
        "## Data",
        _data(facts["data"]),
        "## Training",
        _training(facts["training"]),
        "## Limits",
        _limits(facts),
        "## How to load",
        _loading(str(facts["name"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def description(facts: CardFacts) -> str:
    """Write the version's description: the card, cut to what the store has room for."""
    return shorten(model_card(facts), MAX_DESCRIPTION_CHARACTERS)


def readme(facts: CardFacts) -> str:
    """Write the card with the front matter that the hub reads.

    Args:
        facts: What `card_facts` collected.

    Returns:
        Text of README.md, with licence, language and base model where they are known.

    Source:
        https://huggingface.co/docs/hub/model-cards
    """
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sft", "conversational"],
        "license": facts["licence"],
        "language": facts["data"]["asked_languages"],
        "base_model": facts["base_hub_id"],
    }
    known = {name: value for name, value in front.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False)}---\n\n{model_card(facts)}"


def metrics_table(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    """Write a Markdown table with one line per metric and one column per role."""
    roles = list(metrics)
    names = dict.fromkeys(name for found in metrics.values() for name in found)
    lines = [_row("metric", *roles), _row(*["---"] * (len(roles) + 1))]
    for name in names:
        lines.append(_row(name, *(number(metrics[role].get(name)) for role in roles)))
    return "\n".join(lines)


def gates_table(report: Mapping[str, Any]) -> str:
    """Write a Markdown table of the gates of a `DecisionReport`; empty without gates."""
    if not report["gates"]:
        return ""
    lines = [_row("gate", "metric", "against", "gain with interval", "verdict", "reason")]
    lines.append(_row(*["---"] * 6))
    for gate in report["gates"]:
        gain = signed_number(gate["gain"])
        if gate["interval_low"] is not None:
            gain += f" {interval(gate['interval_low'], gate['interval_high'])}"
            gain += f" ({share(gate['confidence'])})"
        names = (gate["id"], gate["metric"], gate["against"])
        lines.append(_row(*names, gain, gate["verdict"], gate["reason"]))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(inline, cells))} |"


def _data(data: Mapping[str, Any]) -> str:
    formats = ", ".join(f"{name} ({count:,})" for name, count in data["formats"].items())
    lines = [
        f"- source: {inline(data['source'])}",
        f"- rows: {data['n_rows']:,}, of which {data['n_quarantined_rows']:,} were quarantined",
        f"- trained on {data['n_train_rows']:,} rows, {data['n_train_tokens']:,} tokens",
        f"- formats: {formats or 'none'}",
        f"- sha256 of the rows kept: `{data['sha256']}`",
    ]
    return "\n".join(lines)


def _training(training: Mapping[str, Any]) -> str:
    return (
        f"Method {training['method']}, {training['n_steps']:,} steps, "
        f"{training['n_tokens_seen']:,} tokens seen, learning rate {training['learning_rate']:g}, "
        f"{training['n_trainable_parameters']:,} trained parameters, "
        f"seed {training['seed']}, on {training['device']}."
    )


def _limits(facts: CardFacts) -> str:
    data, evaluated = facts["data"], facts["evaluation"]
    spoken = ", ".join(data["asked_languages"] or data["languages"])
    language = (
        f"Languages of the data: {spoken}; others were not tested."
        if spoken
        else "The language of the data was not checked."
    )
    where = (
        "come from a separate set"
        if evaluated["is_pinned"]
        else "were held out of the training data"
    )
    lines = [
        language,
        f"The {evaluated['n_rows']:,} rows it was evaluated on {where}: the metrics hold for questions "
        "like these.",
        f"{evaluated['n_answers']:,} answers were generated, each the most likely one (no sampling), "
        f"of at most {evaluated['max_new_tokens']:,} tokens.",
        f"Conversations longer than {data['max_length_tokens']:,} tokens were neither trained "
        "on nor evaluated.",
        "Not tested: truth of the answers beyond the metrics above, safety, bias, and misuse.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _loading(name: str) -> str:
    return (
        "```python\n"
        "import mlflow\n\n"
        f'model = mlflow.pyfunc.load_model("models:/{name}/VERSION")\n'
        'model.predict({"messages": [{"role": "user", "content": "..."}]})\n'
        "```\n\n"
        "An exported folder loads with `AutoModelForCausalLM.from_pretrained(folder)` and "
        "`AutoTokenizer.from_pretrained(folder)`; the chat template is part of the tokenizer."
    )
