"""Parts of `gpu_check` besides our training: TRL's own, rows kept apart, and generation."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks._gpu_parts import SEED

N_PROBE_ROWS = 3
N_NEW_TOKENS, N_PROMPTS = 64, 32


def stock(folder: Path, n_steps: str) -> dict[str, Any]:
    """Train every weight with TRL's trainer and its defaults, on the same rows.

    Args:
        folder: What `prepare` filled.
        n_steps: Optimiser steps.

    Returns:
        Tokens of rows per second after the first step.
    """
    import pyarrow.parquet as parquet
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from benchmarks.tutorial_sft import speed_after_first, watch

    table = parquet.read_table(folder / "train_tokens.parquet")
    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=SFTConfig(
            output_dir=str(folder / "stock"),
            max_steps=int(n_steps),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=SEED,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Dataset(table.select(["input_ids", "labels"])),
    )
    ends, counts = watch(trainer)
    trainer.train()
    return {
        "tokens_per_second": speed_after_first(ends),
        "computed_per_token": counts["n_computed"] / counts["n_real"],
    }


def isolation(folder: Path) -> dict[str, Any]:
    """Compare rows that TRL's padding-free collator flattens with the same rows alone.

    Args:
        folder: What `prepare` filled.

    Returns:
        The largest difference of a hidden state in standard deviations, for the attention that
        training uses on this device, and whether rows are kept apart.
    """
    import pyarrow.parquet as parquet
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from schemas.config.training import Device, TrainingConfig
    from tasks.models.device import choose_device
    from tasks.models.prepared import load_prepared_model
    from tasks.training.plan.choices import choose
    from tasks.training.plan.machine import examine_machine
    from tasks.training.process._row_attention import HALF_TOLERANCE, ISOLATION_TOLERANCE

    device = choose_device(Device.AUTO)
    choices = choose(TrainingConfig(), examine_machine(Device.AUTO), False, None)
    model = load_prepared_model(folder / "model", device, **choices.model_arguments)
    model = model.to(device).eval()
    table = parquet.read_table(folder / "train_tokens.parquet").slice(0, N_PROBE_ROWS)
    rows = table["input_ids"].to_pylist()
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": row} for row in rows])
    inputs = {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()}
    inputs.pop("labels")
    with torch.no_grad():
        together = model.base_model(**inputs, use_cache=False).last_hidden_state[0].float()
        alone = [
            model.base_model(torch.tensor([row], device=device), use_cache=False) for row in rows
        ]
    expected = torch.cat([each.last_hidden_state[0].float() for each in alone])
    difference = float((together - expected).abs().max() / expected.std())
    tolerance = ISOLATION_TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return {
        "attention": choices.attention,
        "dtype": str(model.dtype).removeprefix("torch."),
        "difference": difference,
        "is_kept_apart": difference < tolerance,
    }


def generation(folder: Path) -> dict[str, Any]:
    """Answer prompts one by one and together as evaluations do, and free the memory again.

    Args:
        folder: What `prepare` filled.

    Returns:
        Tokens per second both ways, and the bytes that the evaluation leaves on the device.
    """
    import torch

    from tasks.models.device import released_memory

    taken = []
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")  # the context comes first
        torch.cuda.empty_cache()
        taken.append(torch.cuda.mem_get_info()[0])
    with released_memory():
        speeds = _generate(folder)
    if torch.cuda.is_available():
        taken.append(torch.cuda.mem_get_info()[0])
    return {**speeds, "left_bytes": sum(before - after for before, after in pairwise(taken))}


def _generate(folder: Path) -> dict[str, float]:
    import pyarrow.parquet as parquet

    from schemas.config.evaluation import EvaluationConfig
    from schemas.config.training import Device
    from tasks.evaluation.answers import generate_tokens
    from tasks.models.device import choose_device
    from tasks.models.prepared import load_prepared_model

    device = choose_device(Device.AUTO)
    model = load_prepared_model(folder / "model", device).to(device).eval()
    model.generation_config.eos_token_id = None  # a random model stops by chance
    table = parquet.read_table(folder / "train_tokens.parquet").slice(0, N_PROMPTS)
    prompts = [row[: len(row) // 3] for row in table["input_ids"].to_pylist()]
    speeds = {}
    for name, n_prompts, size in (("single", 4, 1), ("batched", N_PROMPTS, N_PROMPTS)):
        settings = EvaluationConfig(max_new_tokens=N_NEW_TOKENS, generation_batch_size=size)
        generate_tokens(model, prompts[:1], settings, 0)  # kernels are loaded first
        began = time.perf_counter()
        generate_tokens(model, prompts[:n_prompts], settings, 0)
        n_tokens = n_prompts * N_NEW_TOKENS
        speeds[f"{name}_tokens_per_second"] = n_tokens / (time.perf_counter() - began)
    return speeds
