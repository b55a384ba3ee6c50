"""Parts of `gpu_check` besides our training: TRL's own, rows kept apart, and generation."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks._gpu_parts import SEED

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
    """Compare packed rows with the same rows alone, as a training does before it packs.

    Args:
        folder: What `prepare` filled.

    Returns:
        The attention, number format and precision of a training on this device, whether rows are
        kept apart, and how they differ if not.
    """
    import pyarrow.parquet as parquet
    from datasets import Dataset

    from schemas.config.training import Device, TrainingConfig
    from tasks.models.device import choose_device
    from tasks.models.prepared import load_prepared_model
    from tasks.training.plan.choices import choose
    from tasks.training.plan.machine import examine_machine
    from tasks.training.process._attention import find_attention
    from tasks.training.process._isolation import RowsMix, check_isolation
    from tasks.training.process._packing import pack_with_trl, probe_rows

    device = choose_device(Device.AUTO)
    choices = choose(TrainingConfig(), examine_machine(Device.AUTO), False, None)
    choices = find_attention(folder / "model", choices)
    model = load_prepared_model(folder / "model", device, **choices.model_arguments).to(device)
    rows = probe_rows(Dataset(parquet.read_table(folder / "train_tokens.parquet")))
    problem = ""
    try:
        check_isolation(model, pack_with_trl, rows, choices.precision)
    except RowsMix as error:
        problem = str(error)
    return {
        "attention": choices.attention,
        "dtype": str(model.dtype).removeprefix("torch."),
        "precision": choices.precision,
        "is_kept_apart": not problem,
        "problem": problem,
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
