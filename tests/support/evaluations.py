"""Rows and settings of an evaluation of the toy model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.config.evaluation import EvaluationConfig
from schemas.records.references import QualityReference, TemplateReference
from schemas.rule_ids import Verdict
from tests.support.toy import toy_rows, write_jsonl

N_ROWS = 5
EVALUATION = EvaluationConfig(n_generation_rows=3, max_new_tokens=4)


def template_reference(folder: str = "stages/t") -> TemplateReference:
    """Refer to the toy model as `prepare_template` leaves it."""
    return TemplateReference(
        stage="prepare_template",
        folder=folder,
        sha256="a",
        model_name="toy",
        model_fingerprint="b",
        template_sha256="c",
        template_origin="model",
        n_parameters=1,
        n_added_tokens=0,
        eos_token="<e>",
        pad_token="<p>",
    )


def write_quality(home: Path, model: Path, eval_sha256: str = "e" * 64) -> QualityReference:
    """Write the pinned rows as `check_quality` leaves them."""
    import pyarrow
    import pyarrow.parquet as parquet

    from tests.support.toy import tokenise_toy_row

    folder = home / "stages" / "check_quality" / "k"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [tokenise_toy_row(model, row) for row in range(N_ROWS)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "eval_tokens.parquet")
    prompts: list[dict[str, Any]] = [
        {
            "row": number,
            "prompt": f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
            "question": row["prompt"],
            "reference": row["completion"],
            "n_turns": 1,
            "columns": {"topic": row["topic"]},
            "group": number,
            "digest": f"{number:016x}",
        }
        for number, row in enumerate(toy_rows(N_ROWS))
    ]
    write_jsonl(folder / "eval_prompts.jsonl", prompts)
    return QualityReference(
        stage="check_quality",
        folder="stages/check_quality/k",
        sha256="c" * 64,
        verdict=Verdict.PASSED,
        n_train_rows=1,
        n_eval_rows=N_ROWS,
        n_train_tokens=1,
        n_supervised_tokens=1,
        eval_sha256=eval_sha256,
        rules=(),
    )
