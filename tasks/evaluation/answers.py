"""Generate answers to prompts that were rendered once: greedy, batched, left-padded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import EvaluationConfig
from tasks.engine.progress import progress_bar
from tasks.evaluation.losses import batches
from tasks.models.shape import POSITION_FIELDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POSITION_TABLES = ("wpe", "embed_positions", "position_embeddings")
"""Names of the embeddings of positions, in models that learn them."""


@dataclass(frozen=True)
class RowAnswer:
    """What a model answered to one evaluation prompt."""

    row: int
    prompt: str
    reference: str
    answer: str
    n_answer_tokens: int
    is_stopped: bool
    """True when the model ended the answer itself, False when it ran into the limit."""
    n_reference_tokens: int = 0
    """By the model's own tokenizer, without the stop token, as the answer's are counted."""
    question: str = ""
    """Text of the last turn before the answer."""


def draw_prompts(prompts: Sequence[dict[str, Any]], n_rows: int) -> list[dict[str, Any]]:
    """Draw prompts by the hash of prompt and reference, in this order.

    The first in a file may all be of one kind. The draw is the same each time, and a smaller one is
    the beginning of a larger one, so that the rows a judge sees are a draw of those that were answered.
    """

    def position(row: dict[str, Any]) -> tuple[bytes, int]:
        text = f"{row['prompt']}\0{row['reference']}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), row["row"]

    return sorted(prompts, key=position)[:n_rows]


def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
    evaluation: EvaluationConfig,
) -> list[RowAnswer]:
    """Generate answers greedily, in left-padded batches of similar length.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer; the prompts are rendered already, so no token is added.
        prompts: Rows with `row`, `prompt`, `reference`, and `question` where there is one.
        evaluation: Batch size and longest answer.

    Returns:
        One answer per prompt, in the same order.
    """
    tokens = encode_prompts(tokenizer, prompts)
    generated = generate_tokens(model, tokens, evaluation, int(tokenizer.pad_token_id or 0))
    return read_answers(tokenizer, prompts, generated, stop_token_ids(model))


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[dict[str, Any]]
) -> list[list[int]]:
    """Turn rendered prompts (`prompt` of each row) into token ids; no token is added."""
    texts = [row["prompt"] for row in prompts]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def generate_tokens(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    evaluation: EvaluationConfig,
    pad_token_id: int,
) -> list[list[int]]:
    """Answer prompts greedily, those of similar length together.

    Args:
        model: The model, in evaluation mode.
        prompts: Token ids of each prompt.
        evaluation: Batch size and longest answer.
        pad_token_id: Fills shorter prompts from the left and ended answers from the right.

    Returns:
        The ids after each prompt, in the same order: up to a stop token, then padding.
    """
    # The longest first: if memory is too small, that fails at once.
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    generated: dict[int, list[int]] = {}
    with progress_bar(total=len(prompts), label="answers", unit="prompt") as bar:
        for places in batches(order, evaluation.generation_batch_size):
            batch = [prompts[place] for place in places]
            found = _generate(model, batch, pad_token_id, evaluation.max_new_tokens)
            generated.update(zip(places, found, strict=True))
            bar.update(len(places))
    return [generated[place] for place in range(len(prompts))]


def _generate(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad_token_id: int, max_new_tokens: int
) -> list[list[int]]:
    """Answer one batch, each prompt until a stop token or the limit.

    Shape:
        input_ids and attention_mask (batch, longest prompt), left-padded.
    """
    import torch

    length = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), length), pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for index, ids in enumerate(prompts):
        input_ids[index, length - len(ids) :] = torch.tensor(ids)
        attention_mask[index, length - len(ids) :] = 1
    limit = learned_positions(model)
    if limit is not None:
        max_new_tokens = max(1, min(max_new_tokens, limit - length))
    with torch.inference_mode():
        generated = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad_token_id,
        )
    return generated[:, length:].tolist()


def learned_positions(model: PreTrainedModel) -> int | None:
    """Return how many positions a model has learned, as GPT-2 and OPT; None where it computes them."""
    from torch.nn import Embedding

    settings = model.config.get_text_config()
    tables = (name for name, module in model.named_modules() if isinstance(module, Embedding))
    if not any(name.endswith(POSITION_TABLES) for name in tables):
        return None
    return next(int(getattr(settings, name)) for name in POSITION_FIELDS if hasattr(settings, name))


def read_answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
    generated: Sequence[Sequence[int]],
    stops: frozenset[int],
) -> list[RowAnswer]:
    """Cut each answer at its first stop token and decode it.

    Args:
        tokenizer: The model's.
        prompts: Rows with `row`, `prompt`, `reference`, and `question` where there is one.
        generated: Token ids after each prompt; whatever follows a stop token is padding.
        stops: Tokens that end an answer.

    Returns:
        One answer per prompt, in the same order.
    """
    answers = []
    for row, tokens in zip(prompts, generated, strict=True):
        end = next((place for place, token in enumerate(tokens) if token in stops), None)
        kept = list(tokens if end is None else tokens[:end])
        text = str(tokenizer.decode(kept, skip_special_tokens=True))
        answers.append(row_answer(tokenizer, row, text, len(kept), is_stopped=end is not None))
    return answers


def row_answer(
    tokenizer: PreTrainedTokenizerBase,
    row: dict[str, Any],
    text: str,
    n_tokens: int,
    *,
    is_stopped: bool,
) -> RowAnswer:
    """Make the record of an answer: its text without special tokens, and its length without the stop."""
    reference = tokenizer(row["reference"], add_special_tokens=False)["input_ids"]
    return RowAnswer(
        row=row["row"],
        prompt=row["prompt"],
        reference=row["reference"],
        answer=text.strip(),
        n_answer_tokens=n_tokens,
        is_stopped=is_stopped,
        n_reference_tokens=len(reference),
        question=row.get("question", ""),
    )


def stop_token_ids(model: PreTrainedModel) -> frozenset[int]:
    """Return the end-of-sequence ids of a model's generation configuration."""
    ids = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or [])
