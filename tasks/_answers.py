"""What a model answers to prompts that were rendered once: greedy, batched, left-padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.run_config import EvaluationConfig
from tasks._batches import batches
from tasks._progress import progress_bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
    evaluation: EvaluationConfig,
) -> list[RowAnswer]:
    """Let the model answer, greedily, in left-padded batches of similar length.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer; the prompts are rendered already, so no token is added.
        prompts: Rows with `row`, `prompt`, `reference`.
        evaluation: Batch size and longest answer.

    Returns:
        One answer per prompt, in the order given.
    """
    tokenizer.padding_side = "left"
    by_length = sorted(prompts, key=lambda row: len(row["prompt"]))
    answers: dict[int, RowAnswer] = {}
    with progress_bar(total=len(prompts), label="answers", unit="prompt") as bar:
        for batch in batches(by_length, evaluation.generation_batch_size):
            for answer in _answer_batch(model, tokenizer, batch, evaluation.max_new_tokens):
                answers[answer.row] = answer
            bar.update(len(batch))
    return [answers[row["row"]] for row in prompts]


def _answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[dict[str, Any]],
    max_new_tokens: int,
) -> Iterator[RowAnswer]:
    import torch

    encoded = tokenizer(
        [row["prompt"] for row in batch],
        return_tensors="pt",
        padding=True,
        add_special_tokens=False,
        return_token_type_ids=False,
    ).to(model.device)
    with torch.inference_mode():
        generated = model.generate(
            **encoded,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
        )
    stops = stop_token_ids(model)
    for row, tokens in zip(
        batch, generated[:, encoded["input_ids"].shape[1] :].tolist(), strict=True
    ):
        end = next((place for place, token in enumerate(tokens) if token in stops), None)
        kept = tokens if end is None else tokens[:end]
        text = tokenizer.decode(kept, skip_special_tokens=True)
        yield RowAnswer(
            row=row["row"],
            prompt=row["prompt"],
            reference=row["reference"],
            answer=str(text).strip(),
            n_answer_tokens=len(kept),
            is_stopped=end is not None,
        )


def stop_token_ids(model: PreTrainedModel) -> frozenset[int]:
    """Name the tokens that end an answer.

    Args:
        model: A model with a generation configuration.

    Returns:
        Its end-of-sequence ids.
    """
    ids = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or [])
