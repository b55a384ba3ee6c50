"""Stage `publish_report`: one page a person can read, and the same figures as JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from schemas.records import (
    Decision,
    EvaluationReference,
    Evidence,
    PromotionReference,
    ReportReference,
    VersionReference,
)
from schemas.run_config import RunConfig
from tasks._cache import OutputFolder, locate
from tasks._lines import read_jsonl
from tasks._loss_curve import describe_curve
from tasks._named_sources import title
from tasks._registry import connect, store_errors
from tasks._secrets import public_settings
from tasks._stage import stage_task

TEMPLATES = Path(__file__).parent / "templates"
PAGE = TEMPLATES / "report.html.jinja"
STYLE = TEMPLATES / "page.css"


def pair_answers(
    base: list[dict[str, Any]], tuned: list[dict[str, Any]], prompts: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Lay both models' answers to the same prompt side by side.

    Args:
        base: The base's answers.
        tuned: The tuned model's answers, in the same order.
        prompts: The evaluation prompts, for the question as the user wrote it.

    Returns:
        One mapping per prompt: prompt, reference, base, tuned.
    """
    questions = {row["row"]: row["question"] for row in prompts}
    return [
        {
            "prompt": questions[one["row"]],
            "reference": one["reference"],
            "base": one["answer"],
            "tuned": other["answer"],
        }
        for one, other in zip(base, tuned, strict=True)
    ]


def embed_curve(picture: Path, history: list[dict[str, Any]]) -> dict[str, str]:
    """Make the loss curve part of the page.

    Args:
        picture: The SVG file that the training wrote.
        history: Log entries of the training.

    Returns:
        `source`, a data address (RFC 2397), and `text`, the same in words.
    """
    encoded = base64.b64encode(picture.read_bytes()).decode("ascii")
    return {"source": f"data:image/svg+xml;base64,{encoded}", "text": describe_curve(history)}


def build_report(
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference,
    promotion: PromotionReference,
) -> dict[str, Any]:
    """Collect the figures of a run.

    Args:
        config: The resolved configuration.
        evidence: What the stages produced.
        version: The registered version.
        promotion: Who holds the alias.

    Returns:
        The document written as `report.json`; docs/operate.md describes its fields.
    """
    decision = evidence.decision
    prompts = read_jsonl(locate(evidence.quality, "eval_prompts.jsonl"))
    training = json.loads(locate(evidence.trained, "training.json").read_text(encoding="utf-8"))
    return {
        "decision": decision.decision.value,
        "reason": decision.reason,
        "gates": [gate.model_dump(mode="json") for gate in decision.gates],
        "metrics": {"base": evidence.baseline.metrics, "tuned": evidence.evaluation.metrics},
        "answers": pair_answers(
            _answers(evidence.baseline), _answers(evidence.evaluation), prompts
        ),
        "data": _data_part(config, evidence),
        "training": {**training, "method": config.training.method.value},
        "registry": _registry_part(version, promotion),
        "lineage": {
            "dataset_sha256": evidence.checked.kept_sha256,
            "eval_sha256": evidence.quality.eval_sha256,
            "template_sha256": evidence.template.template_sha256,
            "base_model": evidence.template.model_name,
            "base_fingerprint": evidence.template.model_fingerprint,
            "model_sha256": evidence.trained.sha256,
        },
        "config": public_settings(config.model_dump(mode="json")),
    }


def _data_part(config: RunConfig, evidence: Evidence) -> dict[str, Any]:
    return {
        "source": title(config.data.origin),
        "formats": evidence.checked.formats,
        **evidence.checked.model_dump(include={"n_rows", "n_kept_rows", "n_quarantined_rows"}),
        **evidence.quality.model_dump(
            include={"n_train_rows", "n_eval_rows", "n_train_tokens", "n_supervised_tokens"}
        ),
        "rules": [
            rule.model_dump(mode="json")
            for rule in (*evidence.checked.rules, *evidence.quality.rules)
        ],
    }


def _registry_part(version: VersionReference, promotion: PromotionReference) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "alias": promotion.alias,
        "is_promoted": promotion.decision is Decision.PROMOTE,
        "previous_version": promotion.previous_version,
        "model_uri": version.model_uri,
        "run_id": version.run_id,
        "tracking_uri": version.tracking_uri,
    }


def _answers(reference: EvaluationReference) -> list[dict[str, Any]]:
    return read_jsonl(locate(reference, "answers.jsonl"))


def render_page(report: dict[str, Any], curve: dict[str, str]) -> str:
    """Render the page: one HTML file without any outside resource.

    Args:
        report: What `build_report` made.
        curve: What `embed_curve` made.

    Returns:
        HTML; everything from the data is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(PAGE.name).render(
        report=report, curve=curve, figures=training_figures(report["training"])
    )


def training_figures(training: dict[str, Any]) -> dict[str, str]:
    """Put the figures of a training into words.

    Args:
        training: `TrainingFacts` as JSON.

    Returns:
        Title to text; what did not happen is left out.
    """
    batching = training["batching"]
    best_loss = training["best_validation_loss"]
    figures = {
        "device": training["device"],
        "steps": f"{training['n_steps']:,}",
        "tokens": f"{training['n_tokens_seen']:,}",
        "tokens per second": f"{training['tokens_per_second']:,.0f}",
        "seconds": f"{training['seconds']:,.1f}",
        "peak memory": f"{training['peak_memory_bytes'] / 2**20:,.0f} MiB",
        "trained parameters": f"{training['n_trainable_parameters']:,}",
        "batch": f"{batching['per_device']} sequences x {batching['accumulation']} accumulated "
        f"x {batching['processes']} processes",
        "loss": f"{training['first_loss']:.4f} → {training['last_loss']:.4f}",
    }
    if training["best_step"] is not None:
        figures["model is of step"] = f"{training['best_step']:,}"
    if best_loss is not None:
        figures["lowest validation loss"] = f"{best_loss:.4f}"
    if training["resumed_from_step"]:
        figures["resumed from step"] = f"{training['resumed_from_step']:,}"
    return figures


def summarise(report: dict[str, Any]) -> str:
    """Write the summary that Prefect shows with the run.

    Args:
        report: What `build_report` made.

    Returns:
        Markdown.
    """
    base, tuned = report["metrics"]["base"], report["metrics"]["tuned"]
    lines = [
        f"## {report['registry']['name']} version {report['registry']['version']}: "
        f"{report['decision']}",
        "",
        report["reason"],
        "",
        "| metric | base | tuned |",
        "|---|---|---|",
        *(f"| {name} | {_figure(base[name])} | {_figure(tuned[name])} |" for name in tuned),
    ]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


@stage_task(timeout_seconds=600, libraries=("jinja2", "mlflow"), assets=(PAGE, STYLE))
def publish_report(
    output: OutputFolder,
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference,
    promotion: PromotionReference,
) -> ReportReference:
    """Write the report, keep it with the MLflow run, and show its summary in Prefect.

    Args:
        output: Gets `report.html`, `report.json`, `summary.md`.
        config: The resolved configuration.
        evidence: What the stages produced.
        version: The registered version.
        promotion: Who holds the alias.

    Returns:
        The decision and where the report lies.
    """
    report = build_report(config, evidence, version, promotion)
    history = json.loads(locate(evidence.trained, "history.json").read_text(encoding="utf-8"))
    curve = embed_curve(locate(evidence.trained, "loss_curve.svg"), history)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (output.path / "report.json").write_text(text, encoding="utf-8")
    (output.path / "report.html").write_text(render_page(report, curve), encoding="utf-8")
    client = connect()
    with store_errors():
        for name in ("report.html", "report.json"):
            client.log_artifact(version.run_id, str(output.path / name))
    summary = f"{summarise(report)}\n\n{curve['text']}"
    (output.path / "summary.md").write_text(summary, encoding="utf-8")
    create_markdown_artifact(
        summary, key="sft-report", description="What was trained, measured and decided"
    )
    return output.commit(
        ReportReference,
        content=("summary.md",),  # the others hold timings
        decision=evidence.decision.decision,
        reason=evidence.decision.reason,
    )
