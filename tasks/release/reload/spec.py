"""Record of an evaluation, to compare the registered files with later."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import model_validator

from schemas.base import Record
from schemas.config.evaluation import EvaluationConfig
from schemas.config.run import RunConfig
from schemas.config.training import Device
from schemas.records.references import Evidence
from tasks.engine.cache import locate
from tasks.engine.jsonl import read_jsonl, write_jsonl
from tasks.evaluation.answers import draw_prompts
from tasks.models.device import choose_device

EVALUATION_FOLDER = "evaluation"
"""Artefact folder of the run: the files below, and `losses.jsonl`, `answers.jsonl`."""
SETTINGS_FILE = "settings.json"
PROMPTS_FILE = "prompts.jsonl"
TOKENS_FILE = "tokens.parquet"
SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class EvaluatedSettings(Record):
    """How a model was evaluated, and what must be the same when it is loaded again."""

    model_sha256: str
    template_sha256: str
    stop_token_ids: tuple[int, ...]
    dtype: str
    """Number format of the stored weights, as torch names it."""
    device: str
    eval_sha256: str
    seed: int
    evaluation: EvaluationConfig

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_versions(cls, values: Any) -> Any:
        """Accept a version registered when `backend` was a setting; transformers answered it."""
        if not isinstance(values, dict) or "backend" not in values:
            return values
        evaluation = values.get("evaluation", {})
        kept = {name: value for name, value in values.items() if name != "backend"}
        return kept | {
            "evaluation": {name: evaluation[name] for name in evaluation if name != "backend"}
        }


class ReloadSpec(Record):
    """Input of the reload process."""

    address: str
    """models:/name/version."""
    folder: str
    """Contains the record of the evaluation; gets the outcome."""
    n_prompts: int
    settings: EvaluatedSettings


class Difference(Record):
    """An answer that differs from the evaluated one."""

    row: int
    expected: str
    got: str
    is_tie: bool
    """The first token that differs was as likely as the evaluated one, within float precision."""


class Observation(Record):
    """What the reload process found in the registry."""

    template_sha256: str
    stop_token_ids: tuple[int, ...]
    dtype: str
    precision: float
    """Relative spacing of the floating-point numbers of the computation."""
    n_answers: int
    differences: tuple[Difference, ...]
    losses: dict[int, float]
    """Row to the sum of its tokens' losses in nats."""


def stop_ids(eos_token_id: int | list[int] | None) -> tuple[int, ...]:
    """Return the end tokens of `generation_config.json` in ascending order."""
    ids = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id or []
    return tuple(sorted(ids))


def weights_dtype(folder: Path) -> str:
    """Return torch's name of the number format of most weights in the safetensors files."""
    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a mapping
                part = weights.get_slice(name)
                sizes[part.get_dtype()] += math.prod(part.get_shape())
    found = max(sizes, key=lambda dtype: sizes[dtype], default="")
    return SAFETENSORS_TYPES.get(found, found)


def evaluated_settings(config: RunConfig, evidence: Evidence) -> EvaluatedSettings:
    """Collect what a reload must agree with, from the files that were evaluated."""
    folder = locate(evidence.trained, "model")
    path = folder / "generation_config.json"
    generation: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return EvaluatedSettings(
        model_sha256=evidence.trained.sha256,
        template_sha256=evidence.template.template_sha256,
        stop_token_ids=stop_ids(generation.get("eos_token_id")),
        dtype=weights_dtype(folder),
        device=choose_device(Device.AUTO),
        eval_sha256=evidence.quality.eval_sha256,
        seed=config.seed,
        evaluation=config.evaluation,
    )


def write_evaluated(config: RunConfig, evidence: Evidence, folder: Path) -> None:
    """Write what a later reload check needs: one generation batch of prompts, and every score."""
    import pyarrow.parquet as parquet

    n_prompts = max(config.registry.n_reload_prompts, config.evaluation.generation_batch_size)
    quality = evidence.quality
    prompts = draw_prompts(read_jsonl(locate(quality, "eval_prompts.jsonl")), n_prompts)
    tokens = parquet.read_table(locate(quality, "eval_tokens.parquet")).slice(0, n_prompts)
    write_jsonl(folder / PROMPTS_FILE, prompts)
    parquet.write_table(tokens, folder / TOKENS_FILE)
    for name in ("losses.jsonl", "answers.jsonl"):
        (folder / name).write_bytes(locate(evidence.evaluation, name).read_bytes())
    settings = evaluated_settings(config, evidence).model_dump_json(indent=1)
    (folder / SETTINGS_FILE).write_text(settings, encoding="utf-8")
