"""Measure batched generation against one prompt at a time and a server: same prompts, greedy.

Usage: python -m benchmarks.measure_generate [--prompts 32] [--batch-size N] [--server COMMAND]. The
last line is one JSON document. An answer that differs is a float tie where, at the first token that
differs, the logits of the two tokens lie less than `TIE_LOGITS` apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import EvaluationConfig, ServerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TIE_LOGITS = 1e-3
SERVER = (
    f"{Path(sys.executable).with_name('transformers')} serve {{model}} "
    "--host 127.0.0.1 --port {port} --device cpu --dtype float32"
)
WARM_UP_PROMPTS = 2


@dataclass(frozen=True)
class Generated:
    """Answers of one batch size, and the time they took."""

    answers: list[list[int]]
    """Token ids, each up to and with its stop token."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Count generated tokens, stop tokens included, over the time."""
        return sum(len(answer) for answer in self.answers) / self.seconds


@dataclass(frozen=True)
class Served:
    """Answers of a server, and the time they took once it was ready."""

    answers: list[str]
    n_tokens: int
    """Stop tokens included."""
    seconds: float
    start_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Count generated tokens over the time, without the start."""
        return self.n_tokens / self.seconds


def prepare(folder: Path, n_prompts: int) -> list[dict[str, Any]]:
    """Prepare the bundled model and prompts of the construction FAQ with the product's own parts.

    Args:
        folder: Gets `model/`.
        n_prompts: How many, spread over the set.

    Returns:
        Rows with `prompt` and `reference`.
    """
    from schemas.config.run import DataSource, ModelConfig, TemplateConfig
    from schemas.rows.recognition import recognise
    from tasks.prepare_template import prepare_model
    from tasks.sources.source import read_rows
    from tasks.tokens.rendering import load_renderer, render_prompt

    prepare_model(folder, ModelConfig(), TemplateConfig(), 0)
    renderer = load_renderer(folder / "model", folder / "training_template.jinja")
    rows = read_rows(DataSource(source="construction-faq"))
    found = [each for row in rows if (each := recognise(row)[0])]
    chosen = found[:: max(1, len(found) // n_prompts)][:n_prompts]
    return [{"row": n, **render_prompt(renderer, each)} for n, each in enumerate(chosen)]


def generate(
    model: PreTrainedModel, prompts: Sequence[list[int]], evaluation: EvaluationConfig
) -> Generated:
    """Answer the prompts, and time it.

    Args:
        model: The model.
        prompts: Token ids.
        evaluation: Batch size and longest answer.

    Returns:
        The answers without padding, and the seconds.
    """
    from tasks.evaluation.answers import generate_tokens, stop_token_ids

    stops = stop_token_ids(model)
    pad_token_id = int(model.generation_config.pad_token_id or min(stops))
    began = time.perf_counter()
    answers = generate_tokens(model, prompts, evaluation, pad_token_id)
    seconds = time.perf_counter() - began
    ends = [
        next((place + 1 for place, token in enumerate(ids) if token in stops), len(ids))
        for ids in answers
    ]
    return Generated([ids[:end] for ids, end in zip(answers, ends, strict=True)], seconds)


def measure(
    model: PreTrainedModel, prompts: Sequence[list[int]], batched: EvaluationConfig
) -> tuple[Generated, Generated]:
    """Answer every prompt alone and in its batch, by turns, so that both meet the same machine.

    Args:
        model: The model.
        prompts: Token ids.
        batched: Settings of the batches.

    Returns:
        Answers one at a time, and in batches; both in the order given.
    """
    from tasks.evaluation.losses import batches

    alone = batched.model_copy(update={"generation_batch_size": 1})
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    answers: dict[int, tuple[list[int], list[int]]] = {}
    seconds = [0.0, 0.0]
    for places in batches(order, batched.generation_batch_size):
        group = [prompts[place] for place in places]
        half = len(group) // 2
        before = generate(model, group[:half], alone)
        together = generate(model, group, batched)
        after = generate(model, group[half:], alone)
        seconds[0] += before.seconds + after.seconds
        seconds[1] += together.seconds
        pairs = zip([*before.answers, *after.answers], together.answers, strict=True)
        answers.update(zip(places, pairs, strict=True))
    one, other = zip(*(answers[place] for place in range(len(prompts))), strict=True)
    return Generated(list(one), seconds[0]), Generated(list(other), seconds[1])


def ask(
    model: Path, prompts: Sequence[dict[str, Any]], evaluation: EvaluationConfig
) -> Served | None:
    """Let the configured server answer the prompts, and time it.

    Args:
        model: Folder of the model.
        prompts: Rows from `prepare`.
        evaluation: The server, and the longest answer.

    Returns:
        Its answers; None without a server.
    """
    from tasks.evaluation._served_answers import PATHS, ask_server, write_requests
    from tasks.evaluation.server import serve_model
    from tasks.models.prepared import load_prepared_tokenizer

    server = evaluation.server
    if server is None:
        return None
    tokenizer = load_prepared_tokenizer(model)
    requests = write_requests(tokenizer, prompts, evaluation, server.endpoint)
    path = PATHS[server.endpoint]
    began = time.perf_counter()
    with serve_model((model, model), server, path, {**requests[0], "max_tokens": 1}) as found:
        client, name = found
        ready = time.perf_counter()
        named = [{**request, "model": name} for request in requests]
        answers = ask_server(client, path, named, tokenizer, prompts)
        seconds = time.perf_counter() - ready
    n_tokens = sum(answer.n_answer_tokens + answer.is_stopped for answer in answers)
    return Served([answer.answer for answer in answers], n_tokens, seconds, ready - began)


def explain_difference(
    model: PreTrainedModel, prompt: list[int], one: list[int], other: list[int]
) -> dict[str, Any]:
    """Look at the first token at which two answers to a prompt part.

    Args:
        model: The model.
        prompt: Token ids of the prompt.
        one: An answer.
        other: Another answer.

    Returns:
        `place` in the answer, `gap_logits` between the two tokens there, and `is_tie`.
    """
    import torch

    pairs = zip(one, other, strict=False)
    place = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    ids = torch.tensor([prompt + one[:place]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, -1].float()
    gap = abs(float(logits[one[place]] - logits[other[place]]))
    return {"place": place, "gap_logits": gap, "is_tie": gap < TIE_LOGITS}


def compare(
    model: PreTrainedModel, prompts: Sequence[list[int]], single: Generated, batched: Generated
) -> list[dict[str, Any]]:
    """Explain every answer that is not the same.

    Args:
        model: The model.
        prompts: Token ids.
        single: Answers one at a time.
        batched: Answers in batches.

    Returns:
        One mapping for each difference.
    """
    return [
        {"prompt": number, **explain_difference(model, prompts[number], one, other)}
        for number, (one, other) in enumerate(zip(single.answers, batched.answers, strict=True))
        if one != other
    ]


def report(
    single: Generated,
    batched: Generated,
    differences: list[dict[str, Any]],
    served: Served | None = None,
    texts: Sequence[str] = (),
) -> str:
    """Format the results: a table, and one JSON document as the last line.

    Args:
        single: Answers one at a time.
        batched: Answers in batches.
        differences: What `compare` found.
        served: Answers of the server.
        texts: The batched answers as texts, to compare the server's with.

    Returns:
        The text.
    """
    ratio = batched.tokens_per_second / single.tokens_per_second
    n_prompts, n_ties = len(single.answers), sum(found["is_tie"] for found in differences)
    lines = ["", "            tokens  seconds  tokens/s"]
    for name, found in (("one a time", single), ("batched", batched)):
        lines.append(_line(name, sum(len(answer) for answer in found.answers), found.seconds))
    if served:
        lines.append(_line("server", served.n_tokens, served.seconds))
    lines.append(f"{ratio:.2f} times as many tokens per second")
    lines.append(f"{len(differences)} of {n_prompts} answers differ, {n_ties} by a float tie")
    figures: dict[str, Any] = {
        "batched_vs_single": round(ratio, 2),
        "n_different": len(differences),
        "n_ties": n_ties,
        "n_prompts": n_prompts,
        "single_tokens_per_second": round(single.tokens_per_second, 1),
        "batched_tokens_per_second": round(batched.tokens_per_second, 1),
        "differences": differences,
    }
    if served:
        ratio = served.tokens_per_second / batched.tokens_per_second
        n_other = sum(a != b for a, b in zip(served.answers, texts, strict=True))
        lines.append(
            f"server: {ratio:.2f} times the batched tokens per second, ready after "
            f"{served.start_seconds:.1f} s; {n_other} of {n_prompts} answers differ from batched"
        )
        figures |= {
            "server_tokens_per_second": round(served.tokens_per_second, 1),
            "server_vs_batched": round(ratio, 2),
            "server_start_seconds": round(served.start_seconds, 1),
            "n_different_from_server": n_other,
        }
    return "\n".join([*lines, json.dumps(figures)]) + "\n"


def _line(name: str, n_tokens: int, seconds: float) -> str:
    return f"{name:10s}  {n_tokens:6d}  {seconds:7.1f}  {n_tokens / seconds:8.1f}"


def main() -> None:
    """Measure and print."""
    defaults = EvaluationConfig()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=defaults.generation_batch_size)
    parser.add_argument("--server", default=SERVER, help="its command; empty for no server")
    arguments = parser.parse_args()

    from tasks.evaluation.answers import encode_prompts, read_answers, stop_token_ids
    from tasks.models.prepared import load_prepared_model, load_prepared_tokenizer

    server = ServerConfig(command=arguments.server) if arguments.server else None
    changes = {"generation_batch_size": arguments.batch_size, "server": server}
    settings = defaults.model_copy(update=changes)
    with tempfile.TemporaryDirectory(prefix="sft-flow-generate-") as folder:
        rows = prepare(Path(folder), arguments.prompts)
        place = Path(folder) / "model"
        tokenizer, model = load_prepared_tokenizer(place), load_prepared_model(place, "cpu").eval()
        prompts = encode_prompts(tokenizer, rows)
        generate(model, prompts[:WARM_UP_PROMPTS], settings)
        single, batched = measure(model, prompts, settings)
        differences = compare(model, prompts, single, batched)
        own = read_answers(tokenizer, rows, batched.answers, stop_token_ids(model))
        served = ask(place, rows, settings)
    sys.stdout.write(report(single, batched, differences, served, [one.answer for one in own]))


if __name__ == "__main__":
    main()
