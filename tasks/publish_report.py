"""Stage `publish_report`: one page a person can read, and the same figures as JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from schemas.records import (
    Evidence,
    PromotionReference,
    ReportReference,
    RetrainDecision,
    VersionReference,
)
from schemas.run_config import RunConfig
from tasks._cache import OutputFolder, locate
from tasks._loss_curve import describe_curve
from tasks._registry import connect, store_errors
from tasks._report import build_report, outcome, summarise
from tasks._stage import stage_task

TEMPLATES = Path(__file__).parent / "templates"
PAGE = TEMPLATES / "report.html.jinja"
STYLE = TEMPLATES / "page.css"


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
        report=report,
        outcome=outcome(report),
        curve=curve,
        figures=training_figures(report["training"]),
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


@stage_task(timeout_seconds=600, libraries=("jinja2", "mlflow"), assets=(PAGE, STYLE))
def publish_report(
    output: OutputFolder,
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference | None,
    promotion: PromotionReference | None,
    retrain: RetrainDecision | None = None,
) -> ReportReference:
    """Write the report, keep it with the MLflow run, and show its summary in Prefect.

    Args:
        output: Gets `report.html`, `report.json`, `summary.md`.
        config: The resolved configuration.
        evidence: What the stages produced.
        version: The registered version; None where gates.mode is off.
        promotion: What became of the alias; None as well.
        retrain: Why a scheduled run trained; None where a person asked for it.

    Returns:
        The decision and where the report lies.
    """
    report = build_report(config, evidence, version, promotion)
    report["retrain"] = retrain.model_dump(mode="json") if retrain else None
    history = json.loads(locate(evidence.trained, "history.json").read_text(encoding="utf-8"))
    curve = embed_curve(locate(evidence.trained, "loss_curve.svg"), history)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (output.path / "report.json").write_text(text, encoding="utf-8")
    (output.path / "report.html").write_text(render_page(report, curve), encoding="utf-8")
    if version:
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
        reason=report["reason"],
    )
