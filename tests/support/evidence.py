"""A judged toy model with everything a registration reads, made without training or a flow.

Run as `python -m tests.support.evidence`, it registers the evidence that it reads from standard input.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.config.gates import DecisionMode
from schemas.config.run import RunConfig
from schemas.records.decision import Decision, DecisionReport
from schemas.records.references import (
    ChampionReference,
    CheckedReference,
    DatasetReference,
    DecisionReference,
    EvaluationReference,
    Evidence,
    QualityReference,
    Role,
    SplitReference,
    TemplateReference,
    TrainedReference,
    VersionReference,
)
from schemas.rule_ids import Verdict
from tasks.rows.feature_table import FeatureTable
from tasks.sources.row_digests import ROW_DIGESTS
from tests.support.toy import TOY_TEMPLATE, make_toy_model, strengthen_layers, toy_rows, write_jsonl

N_ROWS = 6
CONFIG = RunConfig.model_validate(
    {
        "registry": {"name": "toy", "n_reload_prompts": 2, "keep_rejected": 1},
        "evaluation": {"n_generation_rows": 4, "max_new_tokens": 8, "generation_batch_size": 4},
    }
)


def make_evidence(home: Path, *, seed: int = 0) -> Evidence:
    """Judge an untrained toy model and write what the stages would have written.

    Args:
        home: The work directory.
        seed: Of the model's weights.

    Returns:
        Evidence with a decision to promote.
    """
    folders = {
        name: home / "stages" / name / f"k{seed}"
        for name in (
            "load_dataset",
            "check_schema",
            "check_quality",
            "train_model",
            "evaluate_model",
            "decide",
        )
    }
    import numpy

    for folder in folders.values():
        folder.mkdir(parents=True)
    model = make_toy_model(folders["train_model"] / "model", seed=seed)
    strengthen_layers(model)
    (folders["train_model"] / "history.json").write_text('[{"step": 1, "loss": 2.0}]')
    (folders["train_model"] / "loss_curve.svg").write_text("<svg/>")
    numpy.save(folders["load_dataset"] / ROW_DIGESTS, numpy.arange(9, dtype=numpy.uint64))
    (folders["check_schema"] / "rules.json").write_text("[]")
    (folders["check_quality"] / "quality.json").write_text("{}")
    (folders["check_quality"] / "profile.json").write_text('{"n_rows": 6, "languages": {"en": 6}}')
    _judge(model, folders["check_quality"], folders["evaluate_model"])
    table = FeatureTable(home / "stages" / "split_dataset" / f"k{seed}" / "row_features")
    table.append("part", numpy.array([1, 0, 3, 2], dtype=numpy.uint8))
    table.append("prompt", numpy.array([10, 30, 20, 40], dtype=numpy.uint64))
    table.save()
    return decide_again(make_records(seed), home, Decision.PROMOTE, None)


def make_records(seed: int = 0) -> Evidence:
    """Make the records alone, without the files they refer to.

    Args:
        seed: Of the model; other seeds stand for other models.

    Returns:
        Evidence with a decision to promote.
    """
    evaluation = _evaluation(Role.CHALLENGER, f"k{seed}", f"m{seed}", {"loss": 2.0, "chrf": 0.5})
    return Evidence(
        dataset=_reference(
            DatasetReference, "load_dataset", f"k{seed}", source="toy.jsonl", n_rows=9
        ),
        checked=_reference(
            CheckedReference,
            "check_schema",
            f"k{seed}",
            n_rows=9,
            n_kept_rows=8,
            n_quarantined_rows=1,
            kept_sha256="d" * 64,
            formats={"messages": 9},
            rules=(),
        ),
        split=_reference(
            SplitReference,
            "split_dataset",
            f"k{seed}",
            n_train_rows=2,
            n_eval_rows=N_ROWS,
            n_unused_rows=0,
            train_sha256="t" * 64,
            eval_sha256="e" * 64,
        ),
        quality=_reference(
            QualityReference,
            "check_quality",
            f"k{seed}",
            verdict=Verdict.PASSED,
            n_train_rows=2,
            n_eval_rows=N_ROWS,
            n_train_tokens=100,
            n_supervised_tokens=50,
            eval_sha256="f" * 64,
            rules=(),
        ),
        template=_reference(
            TemplateReference,
            "prepare_template",
            f"k{seed}",
            model_name="base-model",
            model_fingerprint="b" * 64,
            template_sha256=hashlib.sha256(TOY_TEMPLATE.encode()).hexdigest(),
            template_origin="model",
            n_parameters=1,
            n_added_tokens=0,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
        ),
        trained=_reference(
            TrainedReference,
            "train_model",
            f"k{seed}",
            device="cpu",
            n_steps=30,
            n_tokens_seen=1234,
            first_loss=3.0,
            last_loss=2.0,
            n_trainable_parameters=99,
        ),
        baseline=_evaluation(Role.BASE, f"k{seed}", "base", {"loss": 3.0, "chrf": 0.25}),
        champion=_reference(ChampionReference, "evaluate_champion", f"k{seed}"),
        evaluation=evaluation,
        decision=_reference(
            DecisionReference, "decide", f"k{seed}", report=_report(Decision.PROMOTE, None)
        ),
    )


def decide_again(
    evidence: Evidence, home: Path, decision: Decision, champion_version: int | None
) -> Evidence:
    """Put another decision on the same evidence.

    Args:
        evidence: What `make_evidence` made.
        home: The work directory.
        decision: The other decision.
        champion_version: Whom the challenger was compared with.

    Returns:
        Evidence with figures of the champion, if there is one.
    """
    report = _report(decision, champion_version)
    key = f"{decision.value}{champion_version}"
    folder = home / "stages" / "decide" / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gates.json").write_text(report.model_dump_json())
    champion = None
    if champion_version:
        champion = _evaluation(Role.CHAMPION, key, "champion", {"loss": 2.5, "chrf": 0.375})
    return evidence.model_copy(
        update={
            "decision": _reference(DecisionReference, "decide", key, report=report),
            "champion": _reference(
                ChampionReference,
                "evaluate_champion",
                key,
                version=champion_version,
                evaluation=champion,
            ),
        }
    )


def register(evidence: Evidence, config: RunConfig = CONFIG) -> VersionReference:
    """Run the registering stage without a flow, and without looking into the cache first.

    Args:
        evidence: What to register.
        config: The configuration.

    Returns:
        The stage's record.
    """
    from prefect.logging import disable_run_logger

    from tasks.engine.cache import OutputFolder
    from tasks.engine.keys import stage_key
    from tasks.register_model import register_model

    arguments = {"config": config, "evidence": evidence}
    output = OutputFolder(stage_key(register_model.definition, arguments))
    try:
        with disable_run_logger():
            return inspect.unwrap(register_model.fn)(output, **arguments)  # type: ignore[no-any-return]
    except BaseException:
        output.abandon()
        raise


def _reference(kind: type[Any], stage: str, key: str, **facts: Any) -> Any:
    return kind(
        stage=stage,
        folder=f"stages/{stage}/{key}",
        sha256=hashlib.sha256(f"{stage} {key}".encode()).hexdigest(),
        **facts,
    )


def _evaluation(role: Role, key: str, model: str, metrics: dict[str, float]) -> EvaluationReference:
    return _reference(  # type: ignore[no-any-return]
        EvaluationReference,
        "evaluate_model",
        key,
        role=role,
        model_sha256=model,
        tokenizer_sha256="t",
        eval_sha256="f" * 64,
        n_rows=N_ROWS,
        n_answers=4,
        metrics=metrics,
    )


def _report(decision: Decision, champion_version: int | None) -> DecisionReport:
    return DecisionReport(
        mode=DecisionMode.ENFORCE,
        decision=decision,
        reason=f"{decision.value}: champion {champion_version}",
        confidence=0.95,
        eval_sha256="f" * 64,
        n_eval_rows=N_ROWS,
        champion_version=champion_version,
        gates=(),
    )


def _judge(model_folder: Path, quality: Path, output: Path) -> None:
    """Write prompts, tokens, answers and losses of the toy model."""
    import pyarrow
    import pyarrow.parquet as parquet

    from tasks.evaluation.answers import answer_prompts, draw_prompts
    from tasks.evaluation.losses import measure_losses
    from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer
    from tests.support.toy import tokenise_toy_row

    tokens = [tokenise_toy_row(model_folder, row) for row in range(N_ROWS)]
    parquet.write_table(pyarrow.Table.from_pylist(tokens), quality / "eval_tokens.parquet")
    prompts: list[dict[str, Any]] = [
        {
            "row": number,
            "prompt": f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
            "reference": row["completion"],
            "group": number,
            "digest": f"{number:016x}",
        }
        for number, row in enumerate(toy_rows(N_ROWS))
    ]
    write_jsonl(quality / "eval_prompts.jsonl", prompts)
    model = load_prepared_model(model_folder, "cpu").eval()
    tokenizer = load_prepared_tokenizer(model_folder)
    answers = answer_prompts(model, tokenizer, draw_prompts(prompts, 4), CONFIG.evaluation)
    losses = measure_losses(model, quality / "eval_tokens.parquet", CONFIG.evaluation)
    write_jsonl(output / "answers.jsonl", [asdict(answer) for answer in answers])
    write_jsonl(output / "losses.jsonl", [asdict(loss) for loss in losses])


if __name__ == "__main__":
    print(register(Evidence.model_validate_json(sys.stdin.read())).version)  # noqa: T201
