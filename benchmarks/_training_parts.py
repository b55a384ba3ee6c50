"""Parts of `measure_train` that need torch, in processes of their own.

`python -m benchmarks._training_parts KIND FOLDER [ARGUMENT…]` prints one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GEMM_SIZES = ((2048, 2048, 2048), (512, 576, 1536), (512, 1536, 576), (4096, 1024, 4096))
"""Rows, inner width, columns: large square, the layers of SmolLM2-135M at 512 tokens, long."""
GEMM_SECONDS = 2.0
HELD_OUT_EVERY = 10
"""Every tenth row is held out."""


def prepare(folder: Path, seed: str) -> dict[str, Any]:
    """Prepare the bundled model and the construction FAQ with the product's own parts.

    Args:
        folder: Gets `model/`, the tokens of both sides, and `rows/`, the same rows as messages.
        seed: Of the initial values of new embeddings.

    Returns:
        How many rows, tokens and labels there are to train on, and the sizes of the model.
    """
    from schemas.config.run import DataSource, ModelConfig, QualityConfig, TemplateConfig
    from schemas.rows.recognition import recognise
    from schemas.rule_ids import DataGateMode
    from schemas.rules.set_rules import set_rule_settings
    from tasks.engine.jsonl import json_line
    from tasks.models.shape import read_model_shape
    from tasks.prepare_template import prepare_model
    from tasks.sources.source import read_rows
    from tasks.tokens.rendering import load_renderer
    from tasks.tokens.writing import TokenOutput, write_tokens

    prepare_model(folder, ModelConfig(), TemplateConfig(), int(seed))
    renderer = load_renderer(folder / "model", folder / "training_template.jinja")
    rows = read_rows(DataSource(source="construction-faq"))
    found = [each for row in rows if (each := recognise(row)[0])]
    held_out = found[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    sides = {"train": [each for each in found if each not in held_out], "test": held_out}
    settings = set_rule_settings({}, DataGateMode.ENFORCE)
    limit = QualityConfig().max_length_tokens
    written = {}
    (folder / "rows").mkdir()
    for name, side in sides.items():
        output = TokenOutput(folder / f"{name}_tokens.parquet")
        written[name] = write_tokens(side, renderer, settings, limit, output)
        lines = "".join(json_line({"messages": each.messages}) for each in side)
        (folder / "rows" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    shape = read_model_shape(folder / "model")
    return {
        "n_rows": written["train"].n_rows,
        "n_tokens": written["train"].n_tokens,
        "n_labels": written["train"].n_supervised_tokens,
        "n_parameters": shape.n_parameters if shape else 0,
        "n_head_parameters": shape.hidden_size * shape.vocabulary_size if shape else 0,
    }


def gemm(_: Path) -> dict[str, Any]:
    """Measure the peak of a float32 matrix product.

    Returns:
        `flop_per_second`, the largest of a few shapes.
    """
    import torch

    best = 0.0
    for n_rows, n_inner, n_columns in GEMM_SIZES:
        left, right = torch.randn(n_rows, n_inner), torch.randn(n_inner, n_columns)
        out = left @ right
        ended = time.perf_counter() + GEMM_SECONDS
        while time.perf_counter() < ended:
            began = time.perf_counter()
            torch.mm(left, right, out=out)
            seconds = time.perf_counter() - began
            best = max(best, 2 * n_rows * n_inner * n_columns / seconds)
    return {"flop_per_second": best}


def pack(folder: Path, limit_tokens: str) -> dict[str, Any]:
    """Pack the training rows as the product does.

    Args:
        folder: What `prepare` filled.
        limit_tokens: Length of a packed sequence.

    Returns:
        Sequences, and the tokens that go through the model for each token of a row.
    """
    from tasks.training.plan.shared_prefix import SHARED_SHARE, shared_prefix
    from tasks.training.process._packing import pack_rows
    from tasks.training.process._training_data import read_tokens

    rows = read_tokens(folder / "train_tokens.parquet", 0)
    prefix = shared_prefix(rows)[: int(limit_tokens) // SHARED_SHARE]
    packed = pack_rows(rows, int(limit_tokens), prefix)
    n_rests = sum(len(ids) for ids in packed["input_ids"])
    n_computed = n_rests + len(packed) * len(prefix)
    n_real = n_rests + len(rows) * len(prefix)
    return {
        "n_sequences": len(packed),
        "n_prefix_tokens": len(prefix),
        "computed_per_token": n_computed / n_real,
    }


def losses(folder: Path, tokens: str) -> dict[str, Any]:
    """Measure the held-out loss.

    Args:
        folder: A model folder.
        tokens: Parquet file of the held-out rows.

    Returns:
        `loss`, nats per supervised token.
    """
    from schemas.config.evaluation import EvaluationConfig
    from tasks.evaluation.losses import measure_losses
    from tasks.models.prepared import load_prepared_model

    model = load_prepared_model(folder, "cpu").eval()
    found = measure_losses(model, Path(tokens), EvaluationConfig())
    return {"loss": sum(row.loss_sum_nats for row in found) / sum(row.n_tokens for row in found)}


def evaluate(folder: Path, tokens: str, competitor: str = "") -> dict[str, Any]:
    """Measure how fast the flow's own process computes held-out losses.

    Args:
        folder: A model folder.
        tokens: Parquet file of the held-out rows.
        competitor: Process id of a process whose processor time is measured too.

    Returns:
        `tokens_per_second` of the rows, and `seconds` and `competitor_seconds` of that time.
    """
    import psutil

    from schemas.config.evaluation import EvaluationConfig
    from tasks.evaluation.losses import measure_losses
    from tasks.models.prepared import load_prepared_model
    from tasks.tokens.token_file import read_token_rows

    model = load_prepared_model(folder, "cpu").eval()
    n_tokens = sum(len(part.ids) for part in read_token_rows(Path(tokens)))
    watched = psutil.Process(int(competitor)) if competitor else None
    busy_before = watched.cpu_times().user if watched else 0.0
    began = time.perf_counter()
    measure_losses(model, Path(tokens), EvaluationConfig())
    seconds = time.perf_counter() - began
    busy = watched.cpu_times().user - busy_before if watched else 0.0
    return {
        "tokens_per_second": n_tokens / seconds,
        "seconds": seconds,
        "competitor_seconds": busy,
    }


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "gemm": gemm,
    "pack": pack,
    "losses": losses,
    "evaluate": evaluate,
}


if __name__ == "__main__":
    result = KINDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    sys.stdout.write("\n" + json.dumps(result) + "\n")
