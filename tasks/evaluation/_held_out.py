"""Measure one model on the pinned rows: its losses on the references, and its answers.

Nothing here depends on the metrics, so that another metric does not generate answers again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import EvaluationConfig
from schemas.config.training import Device
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.evaluation import retention
from tasks.evaluation._served_answers import answer_with_server
from tasks.evaluation.answers import RowAnswer, answer_prompts, draw_prompts
from tasks.evaluation.losses import RowLoss, measure_rows, read_rows
from tasks.evaluation.prompt_dependence import (
    PROMPT_DEPENDENCE_FILE,
    RowDependence,
    measure_dependence,
)
from tasks.evaluation.retention import (
    asked_prompts,
    measure_retention,
    retention_settings,
    write_answers,
)
from tasks.models.device import choose_device, released_memory, use_emptiest_gpu
from tasks.models.files import unloadable
from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOSSES_FILE = "losses.jsonl"
ANSWERS_FILE = "answers.jsonl"


def generation_settings(evaluation: EvaluationConfig) -> dict[str, Any]:
    """Return every setting that affects losses and answers, besides model and rows.

    Batch sizes are part of it, since float sums depend on the batch, and so are the server and how
    it is asked. Models of one decision are therefore answered by the same engine.
    """
    limits = {"start_seconds", "timeout_seconds"}
    server = (
        evaluation.server.model_dump(mode="json", exclude=limits) if evaluation.server else None
    )
    return {
        "n_generation_rows": evaluation.n_generation_rows,
        "max_new_tokens": evaluation.max_new_tokens,
        "generation_batch_size": None if server else evaluation.generation_batch_size,
        "loss_batch_size": evaluation.loss_batch_size,
        "server": server,
        "device": choose_device(Device.AUTO),
    }


def measure_held_out(
    folders: tuple[Path, Path],
    quality_folder: Path,
    evaluation: EvaluationConfig,
    seed: int,
    output: Path,
) -> dict[str, Any]:
    """Load a model from disk and measure it; write the files of losses and answers.

    `folders` are those of model and tokenizer, which may be the same; `quality_folder` is the
    output of `check_quality`. Greedy decoding does not draw, so the seed only guards the rest.
    """
    from transformers import set_seed

    set_seed(seed)
    rows = read_jsonl(quality_folder / "eval_prompts.jsonl")
    prompts = draw_prompts(rows, evaluation.n_generation_rows)
    asked = asked_prompts(quality_folder, evaluation.retention)
    with released_memory():  # the server, and later the training, needs it
        found = _measure(folders, quality_folder, prompts, asked, evaluation)
    if evaluation.server is not None:
        both = [*prompts, *asked]
        served = answer_with_server(folders, found.tokenizer, both, evaluation, evaluation.server)
        found.answers, found.asked = served[: len(prompts)], served[len(prompts) :]
    write_jsonl(output / LOSSES_FILE, [asdict(row) for row in found.losses])
    write_jsonl(output / PROMPT_DEPENDENCE_FILE, [asdict(row) for row in found.dependence])
    write_jsonl(output / ANSWERS_FILE, [asdict(row) for row in found.answers])
    write_jsonl(output / retention.LOSSES_FILE, found.retained)
    write_answers(asked, found.asked, output / retention.ANSWERS_FILE)
    return {
        "tokenizer_sha256": tokenizer_sha256(found.tokenizer),
        "n_rows": len(found.losses),
        "n_answers": len(found.answers),
    }


@dataclass
class _Measured:
    """What was measured of one model."""

    tokenizer: PreTrainedTokenizerBase
    losses: list[RowLoss] = field(default_factory=list)
    dependence: list[RowDependence] = field(default_factory=list)
    retained: list[dict[str, Any]] = field(default_factory=list)
    """Losses of the retention rows."""
    answers: list[RowAnswer] = field(default_factory=list)
    asked: list[RowAnswer] = field(default_factory=list)
    """Answers to retention rows."""


def _measure(
    folders: tuple[Path, Path],
    quality_folder: Path,
    prompts: Sequence[dict[str, Any]],
    asked: Sequence[dict[str, Any]],
    evaluation: EvaluationConfig,
) -> _Measured:
    """Measure with the model in this process, which forgets it; a server answers later."""
    model, tokenizer = _load(*folders)
    found = _Measured(tokenizer)
    rows = read_rows(quality_folder / "eval_tokens.parquet")
    if _has_tokens(model, rows):
        found.losses = measure_rows(model, rows, evaluation, "held-out loss")
        found.dependence = measure_dependence(model, rows, found.losses, evaluation)
        found.retained = measure_retention(model, quality_folder, evaluation)
    if evaluation.server is None:
        found.answers = answer_prompts(model, tokenizer, prompts, evaluation)
        found.asked = answer_prompts(model, tokenizer, asked, retention_settings(evaluation))
    return found


def _load(
    model_folder: Path, tokenizer_folder: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model; files that make no model are a fault of the model and are not tried again."""
    from safetensors import SafetensorError

    device = choose_device(Device.AUTO)
    use_emptiest_gpu()
    try:
        tokenizer = load_prepared_tokenizer(tokenizer_folder)
        model = load_prepared_model(model_folder, device)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise unloadable(str(model_folder), error) from error
    return model.to(device).eval(), tokenizer


def _has_tokens(model: PreTrainedModel, rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether the model has all tokens of the rows; else its losses are not measured.

    The rows are pinned as token ids of this run's tokenizer. A champion with another one has no
    comparable loss; the promotion gate refuses the comparison by the tokenizers' hashes.
    """
    n_embeddings = int(model.get_input_embeddings().weight.shape[0])
    return all(max(row["input_ids"], default=0) < n_embeddings for row in rows)


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash what decides which ids a text becomes: equal tokenisation, equal hash.

    Template, padding, truncation and special tokens that a caller may add do not count.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        parts = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        saved = json.loads(backend.to_str())
        names = ("added_tokens", "normalizer", "pre_tokenizer", "model")
        parts = {name: saved.get(name) for name in names}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
