"""Stage `publish_report`: the results of a run as one page and as JSON."""

from __future__ import annotations

import json
import shutil

from schemas.config.run import RunConfig
from schemas.records.references import (
    Evidence,
    PromotionReference,
    ReportReference,
    RetrainDecision,
    VersionReference,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.registry.store import connect, store_errors
from tasks.report.document import build_report, summarise
from tasks.report.run_page import PAGE_FILES, embed_curve, render_page


@stage_task(timeout_seconds=600, libraries=("mlflow",), assets=PAGE_FILES)
def publish_report(
    output: OutputFolder,
    config: RunConfig,
    evidence: Evidence,
    version: VersionReference | None,
    promotion: PromotionReference | None,
    retrain: RetrainDecision | None = None,
) -> ReportReference:
    """Write the report and keep it with the MLflow run.

    Args:
        output: Gets `report.html`, `report.json`, `summary.md`, `loss_curve.svg`.
        config: The resolved configuration.
        evidence: What the stages produced.
        version: The registered version; None where gates.mode is off.
        promotion: What became of the alias; None as well.
        retrain: Why a scheduled run trained; None where a person asked for it.

    Returns:
        The decision and where the report is.
    """
    report = build_report(config, evidence, version, promotion, retrain)
    history = json.loads(locate(evidence.trained, "history.json").read_text(encoding="utf-8"))
    curve = embed_curve(locate(evidence.trained, "loss_curve.svg"), history)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    shutil.copyfile(locate(evidence.trained, "loss_curve.svg"), output.path / "loss_curve.svg")
    (output.path / "report.json").write_text(text, encoding="utf-8")
    (output.path / "report.html").write_text(render_page(report, curve), encoding="utf-8")
    if version:
        client = connect()
        with store_errors():
            for name in ("report.html", "report.json"):
                client.log_artifact(version.run_id, str(output.path / name))
    summary = f"{summarise(report)}\n\n{curve['text']}"
    (output.path / "summary.md").write_text(summary, encoding="utf-8")
    return output.commit(
        ReportReference,
        content=("summary.md",),  # the others hold timings
        decision=evidence.decision.decision,
        reason=report["reason"],
    )
