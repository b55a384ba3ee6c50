"""Estimate how much memory a training needs, from the model's sizes."""

from __future__ import annotations

from schemas.base import Record
from schemas.config.training import Distribution, Method, TrainingConfig
from schemas.errors import MemoryExhausted
from tasks.engine.wording import gibibytes
from tasks.models.shape import ModelShape
from tasks.training.plan.choices import Choices, Head, Packing, Precision

FP32_BYTES = 4
OPTIMISER_BYTES = 8
"""AdamW keeps two averages of each trained parameter in fp32."""
NF4_BYTES = 0.52
"""4 bits, and the doubly quantised scales (Dettmers et al. 2023, arXiv:2305.14314: 0.127 bits)."""
PROCESS_BYTES = {"cpu": 700 * 2**20, "cuda": 700 * 2**20, "mps": 500 * 2**20}
"""Python with torch, transformers, TRL and PEFT, measured on a CPU; for a GPU's context a guess."""
HEAD_COPIES = 3
"""Logits, their softmax and their gradient; our head keeps one of them, and may copy it once."""
FUSED_HEAD_TOKENS = 4096
"""TRL 1.16 projects in tiles; this many rows of logits is more than it keeps at once."""
SLACK_FRACTION = 0.1
"""Of everything but the process: what allocators lose between blocks of unequal size.

Measured peaks of SmolLM2-135M, one sequence of 512 tokens, two CPU cores: LoRA r=16 2.7 to 3.1 GiB,
full 3.3 to 3.7 GiB; the estimates are 2.9 and 3.9 GiB.
"""


class MemoryEstimate(Record):
    """Bytes one training process needs at its peak, on its device."""

    weights_bytes: int
    gradients_bytes: int
    optimiser_bytes: int
    activations_bytes: int
    """Kept from the forward pass for the backward pass."""
    head_bytes: int
    """Logits over the vocabulary and what is made of them."""
    process_bytes: int
    """Libraries, and what the allocator loses."""
    available_bytes: int
    """Free for one process on its device."""

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        state = self.weights_bytes + self.gradients_bytes + self.optimiser_bytes
        return state + self.activations_bytes + self.head_bytes + self.process_bytes

    @property
    def has_room(self) -> bool:
        """Return whether the training fits."""
        return self.total_bytes <= self.available_bytes


class PassSize(Record):
    """Size of one forward pass."""

    n_sequences: int
    sequence_tokens: int

    @property
    def n_tokens(self) -> int:
        """Tokens of the pass, padding included."""
        return self.n_sequences * self.sequence_tokens


def estimate_memory(
    training: TrainingConfig,
    choices: Choices,
    shape: ModelShape,
    size: PassSize,
    available_bytes: int,
) -> MemoryEstimate:
    """Add up the memory of a training process at its peak.

    Args:
        training: The configuration: method, adapter, distribution.
        choices: Number formats, recomputation and head.
        shape: The model.
        size: One forward pass.
        available_bytes: Free for this process.

    Returns:
        The parts in bytes; with fsdp weights, gradients and optimiser state are divided.
    """
    trained = count_trained(training, shape)
    is_sharded = training.distribution is Distribution.FSDP and training.processes > 1
    n_shards = training.processes if is_sharded else 1
    parts = {
        "weights_bytes": _weights_bytes(training, choices, shape, trained) // n_shards,
        "gradients_bytes": FP32_BYTES * trained // n_shards,
        "optimiser_bytes": OPTIMISER_BYTES * trained // n_shards,
        "activations_bytes": _activations_bytes(training, choices, shape, size),
        "head_bytes": _head_bytes(choices, shape, size.n_tokens),
    }
    slack = round(SLACK_FRACTION * sum(parts.values()))
    return MemoryEstimate(
        **parts,
        process_bytes=PROCESS_BYTES[choices.device] + slack,
        available_bytes=available_bytes,
    )


def count_trained(training: TrainingConfig, shape: ModelShape) -> int:
    """Count the trained parameters.

    With an adapter: r x (inputs + outputs) for each of the seven linear maps of each layer, an
    upper bound where fewer get an adapter; DoRA adds a length per output.
    """
    if not training.has_adapter:
        return shape.n_parameters
    lora = training.lora
    per_layer = sum(
        lora.r * (inputs + outputs) + (outputs if lora.use_dora else 0)
        for inputs, outputs in shape.linear_sizes
    )
    return shape.n_layers * per_layer


def _weights_bytes(
    training: TrainingConfig, choices: Choices, shape: ModelShape, trained: int
) -> int:
    """Count the model, its adapter, and the copies in half precision that autocast keeps."""
    if training.method is Method.QLORA:
        embeddings = shape.vocabulary_size * shape.hidden_size
        linear = max(0, shape.n_parameters - embeddings)
        return round(NF4_BYTES * linear) + 2 * embeddings + FP32_BYTES * trained
    each = FP32_BYTES if choices.weights_dtype == "float32" else 2
    is_cast = choices.precision is not Precision.FP32 and choices.weights_dtype == "float32"
    weights = (each + (2 if is_cast else 0)) * shape.n_parameters
    if not training.has_adapter:
        return weights
    # Measured: on a CPU resident memory grows in the first pass by the frozen weights once more.
    copies = 2 if choices.device == "cpu" else 1
    return copies * weights + FP32_BYTES * trained


def _activations_bytes(
    training: TrainingConfig, choices: Choices, shape: ModelShape, size: PassSize
) -> int:
    """Count what the backward pass needs.

    A decoder layer with RMSNorm, grouped-query attention that never stores its scores (sdpa,
    flash) and a gated MLP keeps, in numbers per token: 6h for two norms (input, normalised,
    output; 4h when their scale is frozen), 2q for queries and attention output, 2k for keys and
    values (2q where a mask makes sdpa repeat them, and the mask's row), and 4f for gate, its SiLU,
    up and their product. LoRA adds r per linear map. With recomputation each layer keeps
    only its input, and one layer at a time all of it.

    Source:
        Korthikanti et al. 2022, arXiv:2205.05198, section 4, counted again for this layer; equal
        to the tensors autograd saves for SmolLM2-135M within 1 %.
    """
    hidden, query, key_value = shape.hidden_size, shape.query_size, shape.key_value_size
    mask_tokens = _mask_tokens(choices, size)
    repeated = query if mask_tokens else key_value
    norms = (4 if training.has_adapter else 6) * hidden
    per_layer = norms + 2 * query + 2 * repeated + 4 * shape.intermediate_size
    if training.has_adapter:
        outputs = sum(outputs for _, outputs in shape.linear_sizes)
        per_layer += 7 * training.lora.r + (2 * outputs if training.lora.use_dora else 0)
    each = FP32_BYTES if choices.precision is Precision.FP32 else 2
    upcast = 0 if each == FP32_BYTES else 2 * FP32_BYTES * hidden  # norms compute in fp32
    layer_bytes = each * (per_layer + mask_tokens) + upcast
    if choices.gradient_checkpointing:
        return size.n_tokens * (shape.n_layers * each * hidden + 2 * layer_bytes)
    return size.n_tokens * shape.n_layers * layer_bytes


def _mask_tokens(choices: Choices, size: PassSize) -> int:
    """Return the width of the attention mask, 0 without one.

    Each layer keeps it in the format of the pass. TRL flattens a padding-free batch to one
    sequence, so that without flash attention the mask is as wide as all its tokens together.
    """
    if choices.attention != "sdpa":
        return 0
    if choices.packing is Packing.PADDING_FREE:
        return size.n_tokens
    is_padded = choices.packing is Packing.OFF and size.n_sequences > 1
    return size.sequence_tokens if is_padded else 0


def _head_bytes(choices: Choices, shape: ModelShape, n_tokens: int) -> int:
    """Count the logits, as if every token were trained."""
    rows = min(n_tokens, FUSED_HEAD_TOKENS) if choices.head is Head.FUSED else n_tokens
    return HEAD_COPIES * FP32_BYTES * shape.vocabulary_size * rows


def too_large(
    estimate: MemoryEstimate, training: TrainingConfig, size: PassSize
) -> MemoryExhausted:
    """Make the error that a training does not fit even with one sequence at a time."""
    advice = [
        "training.gradient_checkpointing=auto" if training.gradient_checkpointing is False else "",
        "" if training.has_adapter else "training.method=lora",
        "a smaller training.packing_length_tokens" if training.packing else "",
        "shorter rows (quality.max_length_tokens)",
        "fewer training.processes" if training.processes > 1 else "",
        "a smaller model or a machine with more memory",
    ]
    return MemoryExhausted(
        f"training does not fit into memory, even {size.sequence_tokens:,} tokens at a time",
        where="training",
        expected=f"at most {gibibytes(estimate.available_bytes)} free for each process",
        got=f"{gibibytes(estimate.total_bytes)} needed: {describe(estimate)}",
        fix=f"try in this order: {', '.join(filter(None, advice))}",
    )


def describe(estimate: MemoryEstimate) -> str:
    """Format the parts of an estimate: `weights 0.50 GiB, gradients 0.02 GiB, ...`."""
    names = ("weights", "gradients", "optimiser", "activations", "head", "process")
    return ", ".join(f"{name} {gibibytes(getattr(estimate, f'{name}_bytes'))}" for name in names)
