"""What a server is sent, and what is made of its answers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schemas.config.evaluation import EvaluationConfig, ServerConfig
from schemas.errors import ConfigError
from tasks.evaluation._served_answers import _answer, _messages, _text, answer_with_server
from tasks.evaluation.answers import encode_prompts
from tasks.evaluation.openai_client import Reply
from tasks.models.prepared import load_prepared_tokenizer
from tests.support.processes import completions_server
from tests.support.toy import add_beginning, make_toy_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKED = [{"role": "user", "content": "Ä wall?"}]
PROMPT = "<|im_start|>user\nÄ wall?<|im_end|>\n<|im_start|>assistant\n"
ROW: dict[str, Any] = {"row": 4, "prompt": PROMPT, "reference": "abc", "messages": ASKED}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_prepared_tokenizer(folder)


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A tokenizer that begins every text with a token, as those of Llama and Gemma do."""
    folder = add_beginning(make_toy_model(tmp_path_factory.mktemp("adding") / "model"))
    return load_prepared_tokenizer(folder)


def sent(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> dict[str, Any]:
    [ids] = encode_prompts(tokenizer, [row])
    return _text(tokenizer, row, ids)


def test_rendered_prompt_is_sent_as_it_is(tokenizer: PreTrainedTokenizerBase) -> None:
    assert sent(tokenizer, ROW) == {"prompt": PROMPT}


def test_beginning_that_the_server_adds_is_not_sent_twice(adding: PreTrainedTokenizerBase) -> None:
    begun = {**ROW, "prompt": f"<s>{PROMPT}"}
    [ids] = encode_prompts(adding, [begun])
    assert sent(adding, begun) == {"prompt": PROMPT}
    assert adding(PROMPT)["input_ids"] == ids
    assert ids.count(adding.bos_token_id) == 1


def test_prompt_without_the_beginning_that_a_server_adds_is_refused(
    adding: PreTrainedTokenizerBase,
) -> None:
    with pytest.raises(ConfigError, match="differently from transformers") as caught:
        sent(adding, ROW)
    assert "row 4" in caught.value.where
    assert "chat" in caught.value.fix


def test_messages_are_sent_if_the_models_template_renders_the_prompt(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert _messages(tokenizer, ROW, []) == {"messages": ASKED}
    with pytest.raises(ConfigError, match="differently from transformers") as caught:
        _messages(tokenizer, {**ROW, "prompt": "another"}, [])
    assert caught.value.expected == "'another'"
    assert "Ä wall?" in caught.value.got


def test_tool_calls_are_sent_as_the_protocol_has_them(tokenizer: PreTrainedTokenizerBase) -> None:
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": "paint", "arguments": {"wall": "Ä"}},
    }
    tools = [{"type": "function", "function": {"name": "paint"}}]
    messages = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]
    prompt = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=False
    )
    row = {**ROW, "prompt": prompt, "messages": messages, "tools": tools}
    body = _messages(tokenizer, row, [])
    assert body["tools"] == tools
    [made] = body["messages"][1]["tool_calls"]
    assert made["function"] == {"name": "paint", "arguments": '{"wall": "Ä"}'}
    assert call["function"]["arguments"] == {"wall": "Ä"}


@pytest.mark.parametrize(
    ("reply", "n_tokens", "is_stopped"),
    [
        (Reply(" ab ", "length", 1, 4), 4, False),
        (Reply(" ab ", "stop", 1, 5), 4, True),
        (Reply(" ab ", "stop", None, None), 4, True),
        (Reply(" ab ", "length", None, None), 4, False),
        (Reply("", "stop", 1, 0), 0, True),
    ],
)
def test_answer_is_counted_without_its_stop_token(
    tokenizer: PreTrainedTokenizerBase, reply: Reply, n_tokens: int, is_stopped: bool
) -> None:
    answer = _answer(tokenizer, ROW, reply)
    assert (answer.n_answer_tokens, answer.is_stopped) == (n_tokens, is_stopped)
    assert (answer.answer, answer.n_reference_tokens) == (reply.text.strip(), 3)


def serve(folder: Path, way: str, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    server = ServerConfig(command=completions_server(way))
    evaluation = EvaluationConfig(max_new_tokens=12)
    tokenizer = load_prepared_tokenizer(folder)
    answers = answer_with_server((folder, folder), tokenizer, prompts, evaluation, server)
    return [asdict(answer) for answer in answers]


@pytest.mark.loopback
def test_answers_come_in_the_order_of_the_prompts(folder: Path) -> None:
    rows = [{"row": n, "prompt": f"{n:05d} walls", "reference": "x"} for n in range(20)]
    answers = serve(folder, "works", rows)
    assert [answer["row"] for answer in answers] == list(range(20))
    assert [answer["answer"] for answer in answers] == [f"model: {n:05d}" for n in range(20)]
    assert serve(folder, "dies", []) == []


@pytest.mark.loopback
def test_server_that_reads_another_number_of_tokens_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="differently from transformers") as caught:
        serve(folder, "adds a token", [{"row": 0, "prompt": "wall", "reference": "x"}])
    assert (caught.value.expected, caught.value.got) == ("4 tokens", "5 tokens")
