"""What is kept of a judging so that the registered files can be held against it later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.base import Record
from schemas.config.evaluation import Backend, EvaluationConfig
from schemas.config.run import RunConfig
from schemas.config.training import Device
from schemas.records.references import Evidence
from tasks.engine.cache import locate
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.evaluation.backend import choose_backend
from tasks.models.device import choose_device

EVALUATION_FOLDER = "evaluation"
"""Artefact folder of the run: the files below, and `losses.jsonl`, `answers.jsonl`."""
SETTINGS_FILE = "settings.json"
PROMPTS_FILE = "prompts.jsonl"
TOKENS_FILE = "tokens.parquet"
SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class EvaluatedSettings(Record):
    """How a model was judged, and what of it must be the same when it is loaded again."""

    model_sha256: str
    template_sha256: str
    stop_token_ids: tuple[int, ...]
    dtype: str
    """Number format of the stored weights, as torch names it."""
    device: str
    backend: Backend
    """What generated the answers."""
    eval_sha256: str
    seed: int
    evaluation: EvaluationConfig


class ReloadSpec(Record):
    """What the fresh process is to do."""

    address: str
    """models:/name/version."""
    folder: str
    """Holds the files of the judging; gets the outcome."""
    n_prompts: int
    settings: EvaluatedSettings


class Difference(Record):
    """An answer that is not the judged one."""

    row: int
    judged: str
    got: str
    is_tie: bool
    """The first token that differs was as likely as the judged one, within float precision."""


class Observation(Record):
    """What the fresh process found in the registry."""

    template_sha256: str
    stop_token_ids: tuple[int, ...]
    dtype: str
    precision: float
    """Relative spacing of the numbers that were computed with."""
    n_answers: int
    differences: tuple[Difference, ...]
    losses: dict[int, float]
    """Row to the sum of its tokens' losses in nats."""


def stop_ids(eos_token_id: int | list[int] | None) -> tuple[int, ...]:
    """Bring the end tokens of a generation configuration into one form.

    Args:
        eos_token_id: As `generation_config.json` has it.

    Returns:
        The ids in ascending order.
    """
    ids = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or []
    return tuple(sorted(ids))


def weights_dtype(folder: Path) -> str:
    """Read the number format that most of the stored weights have.

    Args:
        folder: A model folder with weights in safetensors format.

    Returns:
        torch's name of it.
    """
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a mapping
                part = weights.get_slice(name)
                dtype = part.get_dtype()
                n_numbers = 1
                for length in part.get_shape():
                    n_numbers *= length
                sizes[dtype] = sizes.get(dtype, 0) + n_numbers
    found = max(sizes, key=lambda dtype: sizes[dtype], default="")
    return SAFETENSORS_TYPES.get(found, found)


def evaluated_settings(config: RunConfig, evidence: Evidence) -> EvaluatedSettings:
    """Collect what a reload must agree with.

    Args:
        config: The resolved configuration.
        evidence: What was judged.

    Returns:
        The settings, read from the files that were judged.
    """
    folder = locate(evidence.trained, "model")
    path = folder / "generation_config.json"
    generation: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return EvaluatedSettings(
        model_sha256=evidence.trained.sha256,
        template_sha256=evidence.template.template_sha256,
        stop_token_ids=stop_ids(generation.get("eos_token_id")),
        dtype=weights_dtype(folder),
        device=choose_device(Device.AUTO),
        backend=choose_backend(config.evaluation.backend),
        eval_sha256=evidence.quality.eval_sha256,
        seed=config.seed,
        evaluation=config.evaluation,
    )


def write_evaluated(config: RunConfig, evidence: Evidence, folder: Path) -> None:
    """Write what a later reload check needs: one generation batch of prompts, and every score.

    Args:
        config: The resolved configuration.
        evidence: What was judged.
        folder: Where to; exists.
    """
    import pyarrow.parquet as parquet

    n_prompts = max(config.registry.n_reload_prompts, config.evaluation.generation_batch_size)
    quality = evidence.quality
    prompts = read_jsonl(locate(quality, "eval_prompts.jsonl"))[:n_prompts]
    tokens = parquet.read_table(locate(quality, "eval_tokens.parquet")).slice(0, n_prompts)
    write_jsonl(folder / PROMPTS_FILE, prompts)
    parquet.write_table(tokens, folder / TOKENS_FILE)
    for name in ("losses.jsonl", "answers.jsonl"):
        (folder / name).write_bytes(locate(evidence.evaluation, name).read_bytes())
    settings = evaluated_settings(config, evidence).model_dump_json(indent=1)
    (folder / SETTINGS_FILE).write_text(settings, encoding="utf-8")
