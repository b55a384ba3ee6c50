"""Let a server answer prompts greedily, with the very tokens that transformers would be given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import Endpoint, EvaluationConfig, ServerConfig
from schemas.errors import ConfigError
from tasks.engine.progress import progress_bar
from tasks.evaluation.answers import RowAnswer, encode_prompts, row_answer
from tasks.evaluation.openai_client import Client, Reply
from tasks.evaluation.server import SETTING, serve_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATHS = {Endpoint.COMPLETIONS: "/completions", Endpoint.CHAT: "/chat/completions"}
LIMIT_REACHED = "length"


def answer_with_server(
    folders: tuple[Path, Path],
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
    evaluation: EvaluationConfig,
    server: ServerConfig,
) -> list[RowAnswer]:
    """Serve a model and let it answer.

    Args:
        folders: Those of model and tokenizer, which may be the same.
        tokenizer: The model's.
        prompts: Rows of `eval_prompts.jsonl`.
        evaluation: Longest answer.
        server: The server.

    Returns:
        One answer per prompt, in the same order.
    """
    if not prompts:
        return []
    requests = write_requests(tokenizer, prompts, evaluation, server.endpoint)
    path = PATHS[server.endpoint]
    with serve_model(folders, server, path, {**requests[0], "max_tokens": 1}) as (client, name):
        named = [{**request, "model": name} for request in requests]
        return ask_server(client, path, named, tokenizer, prompts)


def write_requests(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
    evaluation: EvaluationConfig,
    endpoint: Endpoint,
) -> list[dict[str, Any]]:
    """Write the request of each prompt, without the name of the model."""
    write = _messages if endpoint is Endpoint.CHAT else _text
    tokens = encode_prompts(tokenizer, prompts)
    greedy = {"temperature": 0, "max_tokens": evaluation.max_new_tokens}
    return [
        {**write(tokenizer, row, ids), **greedy} for row, ids in zip(prompts, tokens, strict=True)
    ]


def ask_server(
    client: Client,
    path: str,
    requests: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[dict[str, Any]],
) -> list[RowAnswer]:
    """Send every request, and check that the server counts the tokens of its prompt alike.

    Args:
        client: Of the running server.
        path: Of its endpoint.
        requests: From `write_requests`, with the name of the model.
        tokenizer: The model's.
        prompts: The rows of the requests.

    Returns:
        One answer per prompt, in the same order.
    """
    expected = [len(ids) for ids in encode_prompts(tokenizer, prompts)]
    answers: dict[int, RowAnswer] = {}
    with progress_bar(total=len(prompts), label="answers", unit="prompt") as bar:

        def take(place: int, reply: Reply) -> None:
            if reply.n_prompt_tokens not in (None, expected[place]):
                counts = (f"{n} tokens" for n in (expected[place], reply.n_prompt_tokens))
                raise _read_differently(prompts[place], *counts)
            answers[place] = _answer(tokenizer, prompts[place], reply)
            bar.update(1)

        client.ask_all(path, requests, take)
    return [answers[place] for place in range(len(prompts))]


def _text(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], ids: Sequence[int]
) -> dict[str, Any]:
    """Return the text that becomes the prompt's tokens on a server, which may add some itself.

    The rendered prompt begins with the token for the beginning where the template writes it; a
    server whose tokenizer adds it too would read it twice.
    """
    prompt = row["prompt"]
    for text in (prompt, prompt.removeprefix(tokenizer.bos_token or "")):
        if list(tokenizer(text)["input_ids"]) == list(ids):
            return {"prompt": text}
    got = f"{len(tokenizer(prompt)['input_ids'])} tokens, with those that the tokenizer adds"
    raise _read_differently(row, f"{len(ids)} tokens", got)


def _messages(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], _: Sequence[int]
) -> dict[str, Any]:
    """Return the messages, if the model's own chat template renders the prompt from them."""
    messages, tools = row["messages"], row.get("tools")
    rendered = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=False
    )
    if rendered != row["prompt"]:
        raise _read_differently(row, repr(row["prompt"][:200]), repr(str(rendered)[:200]))
    sent = {"messages": [_as_sent(message) for message in messages]}
    return {**sent, "tools": tools} if tools else sent


def _as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """Write the arguments of tool calls as JSON text, as the protocol has them."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _json(call["function"])}}
        for call in message.get("tool_calls") or ()
    ]
    return {**message, "tool_calls": calls} if calls else message


def _json(function: dict[str, Any]) -> str:
    arguments = function.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _read_differently(row: dict[str, Any], expected: str, got: str) -> ConfigError:
    return ConfigError(
        "the evaluation server reads a prompt differently from transformers",
        where=f"{SETTING}, evaluation row {row['row']}",
        expected=expected,
        got=got,
        fix=f"set {SETTING}.endpoint to completions, or to chat if that is what it is now; "
        "chat needs the chat template that rendered the prompts",
    )


def _answer(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], reply: Reply) -> RowAnswer:
    is_stopped = reply.finish_reason != LIMIT_REACHED
    n_tokens = reply.n_tokens
    if n_tokens is None:
        n_tokens = len(tokenizer(reply.text, add_special_tokens=False)["input_ids"])
    elif is_stopped:
        n_tokens -= 1  # the stop token
    return row_answer(tokenizer, row, reply.text, max(n_tokens, 0), is_stopped=is_stopped)
