"""Parts of `gpu_check`, each in a process of its own that leaves no memory behind.

`python -m benchmarks._gpu_parts KIND FOLDER [ARGUMENT…]` prints one JSON document. None of them
imports Prefect or MLflow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 7
SIZES = {
    "135m": {"hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "kv_heads": 3},
    "1b": {"hidden": 2048, "inner": 8192, "layers": 16, "heads": 32, "kv_heads": 8},
    "tiny": {"hidden": 32, "inner": 64, "layers": 2, "heads": 4, "kv_heads": 2},
}
"""SmolLM2-135M's shape, that of Llama 3.2 1B with a smaller vocabulary, and one for a CPU."""
WORK = {
    "gpu": {"vocabulary": 49_152, "rows": 4_000, "mean": 300, "packed": 1_024, "batch": 32},
    "tiny": {"vocabulary": 320, "rows": 200, "mean": 30, "packed": 64, "batch": 4},
}
N_BYTES, N_SPECIAL, N_MARKERS = 256, 3, 24
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SETTINGS = {
    "per_device_train_batch_size": "auto",
    "num_train_epochs": 100,
    "save_steps": 1_000,
    "torch_compile": "off",
}
GEMM_SIZE, GEMM_SECONDS = 8_192, 2.0
KILL_AFTER_STEP = 7


def prepare(folder: Path, size: str, work: str) -> dict[str, Any]:
    """Write a random Llama and made-up rows.

    Args:
        folder: Gets `model/` and `train_tokens.parquet`.
        size: A name in SIZES.
        work: A name in WORK.

    Returns:
        Parameters of the model, and rows and tokens to train on.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, vocabulary = SIZES[size], WORK[work]["vocabulary"]
    tokenizer = make_tokenizer(vocabulary)
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=4_096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    n_tokens = write_rows(folder / "train_tokens.parquet", tokenizer, WORK[work])
    return {
        "n_parameters": model.num_parameters(),
        "n_rows": WORK[work]["rows"],
        "n_tokens": n_tokens,
    }


def make_tokenizer(vocabulary: int) -> Any:
    """Make a byte-level tokenizer whose other tokens are made up."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made_up = [f"token{number}" for number in range(vocabulary - N_BYTES - N_SPECIAL)]
    words = {word: number for number, word in enumerate([*alphabet, *made_up])}
    plain = Tokenizer(models.BPE(vocab=words, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_rows(path: Path, tokenizer: Any, work: dict[str, int]) -> int:
    """Write rows of uneven length whose tokens have uneven frequencies, so that a model learns.

    Args:
        path: Parquet file with `row`, `input_ids` and `labels`.
        tokenizer: What `make_tokenizer` made.
        work: Rows, their mean length and the vocabulary.

    Returns:
        Tokens in all rows.
    """
    import numpy
    import pyarrow
    import pyarrow.parquet as parquet

    generator = numpy.random.default_rng(SEED)
    begin, middle, end = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>")
    )
    n_made_up = work["vocabulary"] - N_BYTES - N_SPECIAL
    rows: list[dict[str, Any]] = []
    for number in range(work["rows"]):
        drawn = generator.lognormal(numpy.log(work["mean"]), 0.5)
        n_tokens = int(min(drawn, work["packed"] - N_MARKERS))
        ids = (N_BYTES + generator.zipf(1.3, n_tokens) % n_made_up).tolist()
        n_asked = n_tokens // 3
        prompt = [*begin, *ids[:n_asked], *middle]
        answer = [*ids[n_asked:], *end]
        labels = [-100] * len(prompt) + answer
        rows.append({"row": number, "input_ids": prompt + answer, "labels": labels})
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return sum(len(row["input_ids"]) for row in rows)


def peak(_: Path) -> dict[str, Any]:
    """Measure the peak of a bf16 matrix product, and describe the device.

    Returns:
        `flop_per_second`, the name of the device, and versions.
    """
    import platform

    import torch
    import transformers
    import trl

    is_gpu = torch.cuda.is_available()
    size, device = (GEMM_SIZE, "cuda") if is_gpu else (512, "cpu")
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "ab")
    best, until = 0.0, time.perf_counter() + GEMM_SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _repeat in range(10):
            torch.mm(left, right)
        if is_gpu:
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - began))
    versions = {one.__name__: one.__version__ for one in (torch, transformers, trl)}
    name = torch.cuda.get_device_name() if is_gpu else platform.processor() or "CPU"
    return {
        "flop_per_second": best,
        "device": name,
        "versions": {**versions, "python": platform.python_version()},
    }


def train(folder: Path, method: str, work: str, n_steps: str) -> dict[str, Any]:
    """Train through the training process.

    Args:
        folder: What `prepare` filled.
        method: full or lora.
        work: A name in WORK.
        n_steps: Optimiser steps.

    Returns:
        Speed, batch, choices, and the estimated and measured memory.
    """
    from tasks.training.launch import run_training

    spec, memory = make_spec(folder, f"{method}-once", method, work, max_steps=int(n_steps))
    facts = run_training(spec, lambda _: None)
    measured = facts.peak_device_bytes or facts.peak_memory_bytes
    return {
        "tokens_per_second": facts.tokens_per_second,
        "n_trainable_parameters": facts.n_trainable_parameters,
        "per_device": facts.batching.per_device,
        "choices": facts.choices,
        "notes": facts.notes,
        "estimated_bytes": memory,
        "measured_bytes": measured,
        "estimate_error": memory / measured - 1,
        "losses": [facts.first_loss, facts.last_loss],
    }


def make_spec(folder: Path, name: str, method: str, work: str, **settings: Any) -> tuple[Any, int]:
    """Plan a training as the flow does.

    Args:
        folder: What `prepare` filled.
        name: Of the folder for the output.
        method: full or lora.
        work: A name in WORK.
        **settings: Of the training, besides.

    Returns:
        The spec, and the estimated bytes on the device; on a GPU without the CUDA context, which
        torch does not count.
    """
    from schemas.config.training import TrainingConfig
    from tasks.models.shape import read_model_shape
    from tasks.training.plan.machine import examine_machine
    from tasks.training.plan.memory import PROCESS_BYTES
    from tasks.training.plan.setup import prepare_training, read_workload
    from tasks.training.process.spec import TrainingSpec

    usual = {
        "learning_rate": 1e-3 if method == "lora" else 3e-4,
        "packing_length_tokens": WORK[work]["packed"],
        "effective_batch_size": WORK[work]["batch"],
        **SETTINGS,
    }
    training = TrainingConfig.model_validate({"method": method, **usual, **settings})
    tokens = folder / "train_tokens.parquet"
    shape, machine = read_model_shape(folder / "model"), examine_machine(training.device)
    setup = prepare_training(training, machine, shape, read_workload(tokens))
    (folder / name).mkdir()
    spec = TrainingSpec(
        model=folder / "model",
        train_tokens=tokens,
        output=folder / name,
        checkpoints=folder / f"{name}-checkpoints",
        fingerprint={},
        training=training,
        choices=setup.choices,
        batching=setup.batching,
        notes=setup.notes,
        seed=SEED,
    )
    estimated = setup.memory.total_bytes if setup.memory else 0
    return spec, estimated - (PROCESS_BYTES["cuda"] if machine.device == "cuda" else 0)


def resume(folder: Path, work: str) -> dict[str, Any]:
    """Kill a training with -9 and go on from its checkpoint.

    Args:
        folder: What `prepare` filled.
        work: A name in WORK.

    Returns:
        The step it resumed from, and whether loss curve and step count are whole.
    """
    import psutil

    from schemas.errors import TrainingKilled
    from tasks.training.launch import run_training

    spec, _ = make_spec(folder, "killed", "lora", work, max_steps=12, save_steps=5, logging_steps=1)

    def kill(event: Any) -> None:
        if event.step >= KILL_AFTER_STEP and event.kind == "step":
            for child in psutil.Process().children(recursive=True):
                os.kill(child.pid, signal.SIGKILL)

    try:
        run_training(spec, kill)
        was_killed = False
    except TrainingKilled:
        was_killed = True
    facts = run_training(spec, lambda _: None)
    history = json.loads((spec.output / "history.json").read_text(encoding="utf-8"))
    steps = [entry["step"] for entry in history if "loss" in entry]
    return {
        "was_killed": was_killed,
        "resumed_from_step": facts.resumed_from_step,
        "is_whole": was_killed and steps == list(range(1, 13)) and facts.resumed_from_step == 5,
    }


def from_others(kind: str) -> Callable[..., dict[str, Any]]:
    """Return a part from `_gpu_peers`, which is imported only in the process that runs it."""

    def part(folder: Path, *words: str) -> dict[str, Any]:
        from benchmarks import _gpu_peers

        found: dict[str, Any] = getattr(_gpu_peers, kind)(folder, *words)
        return found

    return part


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "peak": peak,
    "train": train,
    "resume": resume,
    "stock": from_others("stock"),
    "isolation": from_others("isolation"),
    "generation": from_others("generation"),
}


if __name__ == "__main__":
    result = KINDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    forbidden = sorted({"prefect", "mlflow"} & sys.modules.keys())
    if forbidden:
        raise SystemExit(f"imported {', '.join(forbidden)}")
    sys.stdout.write("\n" + json.dumps(result) + "\n")
