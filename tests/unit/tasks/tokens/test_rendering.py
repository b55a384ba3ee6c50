from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import ModelConfig, TemplateConfig
from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, RowFormat, SourceRow
from tasks.prepare_template import prepare_model
from tasks.tokens._texts import TextRenderer
from tasks.tokens.rendering import (
    RenderedRow,
    Renderer,
    join_spans,
    load_renderer,
    render_prompt,
    render_row,
    render_rows,
    trim_spans,
)
from tasks.tokens.token_file import NOT_TRAINED
from tests.support.shipped_templates import shipped_templates
from tests.support.toy import make_toy_model

# The toy template with markers; the line feed after the stop token lies inside them here.
MARKED = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' + '\n' }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] + '<|im_end|>' + '\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
TURNS = [
    ("user", "How tall?"),
    ("assistant", "Two metres."),
    ("user", "Sure?"),
    ("assistant", "Ja ä."),
]


def messages(n_turns: int) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in TURNS[:n_turns]]


def chat(n_turns: int, n_prompt_messages: int | None = None) -> Conversation:
    row_format = RowFormat.MESSAGES if n_prompt_messages is None else RowFormat.PROMPT_COMPLETION
    columns: dict[str, str | int | float | bool] = {"topic": "walls"}
    return Conversation(
        "a.jsonl", 1, row_format, messages(n_turns), n_prompt_messages, None, columns
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("model"))


def renderer_of(model: Path, folder: Path, template: str = MARKED) -> Renderer:
    path = folder / "training_template.jinja"
    path.write_text(template, encoding="utf-8")
    return load_renderer(model, path)


@pytest.fixture
def renderer(model: Path, tmp_path: Path) -> Renderer:
    return renderer_of(model, tmp_path)


def trained_text(renderer: Renderer, row: RenderedRow) -> str:
    kept = [label for label in row.labels if label != NOT_TRAINED]
    return str(renderer.tokenizer.decode(kept))


def test_messages_row_trains_every_answer_with_its_stop_token(renderer: Renderer) -> None:
    row = render_row(renderer, chat(4))
    assert trained_text(renderer, row) == "Two metres.<|im_end|>Ja ä.<|im_end|>"
    assert renderer.tokenizer.decode(row.input_ids) == (
        "<|im_start|>user\nHow tall?<|im_end|>\n<|im_start|>assistant\nTwo metres.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nJa ä.<|im_end|>\n"
    )
    assert len(row.labels) == len(row.input_ids)
    assert all(
        label in (NOT_TRAINED, token)
        for label, token in zip(row.labels, row.input_ids, strict=True)
    )
    # One token a byte and one for each stop: 11 + 1 and 6 ("ä" is two bytes) + 1.
    assert row.n_supervised_tokens == 12 + 7
    assert row.stop_is_supervised
    assert row.prompt_is_prefix
    assert (row.n_bos, row.problem) == (0, "")


def test_prompt_completion_row_trains_only_the_completion(renderer: Renderer) -> None:
    row = render_row(renderer, chat(4, n_prompt_messages=3))
    assert trained_text(renderer, row) == "Ja ä.<|im_end|>"
    whole = render_row(renderer, chat(4, n_prompt_messages=1))
    assert trained_text(renderer, whole) == "Two metres.<|im_end|>Ja ä.<|im_end|>"


@pytest.mark.parametrize("has_template", [True, False])
def test_prepared_model_trains_every_answer_of_a_chat_and_only_the_completion_of_a_pair(
    tmp_path: Path, has_template: bool
) -> None:
    source = make_toy_model(tmp_path / "toy", has_template=has_template)
    prepare_model(tmp_path, ModelConfig(source=str(source)), TemplateConfig(), 1)
    renderer = load_renderer(tmp_path / "model", tmp_path / "training_template.jinja")
    turns: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, *messages(4)]
    turns += [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Rules."}]
    rows = {
        "Two metres.<|im_end|>Ja ä.<|im_end|>Rules.<|im_end|>": {"messages": turns},
        "Rules.<|im_end|>": {"prompt": turns[:-1], "completion": turns[-1:]},
        "Two metres.<|im_end|>": {"prompt": "How tall?", "completion": "Two metres."},
    }
    for trained, row in rows.items():
        conversation, _, _ = recognise(SourceRow("a.jsonl", 1, row))
        assert conversation is not None
        found = render_row(renderer, conversation)
        assert trained_text(renderer, found) == trained
        assert found.stop_is_supervised
        pairs = zip(found.input_ids, found.labels, strict=True)
        rest = renderer.tokenizer.decode([token for token, label in pairs if label == NOT_TRAINED])
        asked = [turn["content"] for turn in conversation.messages if turn["role"] != "assistant"]
        assert all(text in rest for text in asked)
        assert "Rules." not in rest


def test_template_without_markers_trains_nothing(model: Path, tmp_path: Path) -> None:
    plain = MARKED.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    row = render_row(renderer_of(model, tmp_path, plain), chat(2))
    assert (row.n_supervised_tokens, row.stop_is_supervised) == (0, False)


def test_template_that_leaves_the_stop_token_out_is_seen(model: Path, tmp_path: Path) -> None:
    template = MARKED.replace(
        "{{ message['content'] + '<|im_end|>' + '\n' }}{%- endgeneration -%}",
        "{{ message['content'] }}{%- endgeneration -%}{{ '<|im_end|>' + '\n' }}",
    )
    row = render_row(renderer_of(model, tmp_path, template), chat(2))
    assert row.n_supervised_tokens == 11
    assert not row.stop_is_supervised


def test_template_whose_prompt_is_not_a_prefix_is_seen(model: Path, tmp_path: Path) -> None:
    template = MARKED.replace(
        "'<|im_start|>' + message['role']", "'<|im_start|> ' + message['role']"
    )
    row = render_row(renderer_of(model, tmp_path, template), chat(2))
    assert not row.prompt_is_prefix
    assert render_row(renderer_of(model, tmp_path), chat(2)).prompt_is_prefix


def test_leading_bos_tokens_are_counted(renderer: Renderer) -> None:
    # SmolLM2's beginning-of-sequence token opens every turn; only those at the start count.
    renderer.tokenizer.bos_token = "<|im_start|>"
    assert render_row(renderer, chat(4)).n_bos == 1
    doubled = Renderer(renderer.tokenizer, "{{ '<|im_start|>' }}" + MARKED, renderer.stop_ids)
    assert render_row(doubled, chat(4)).n_bos == 2


def test_refused_row_has_no_tokens_and_a_reason(renderer: Renderer) -> None:
    refusing = Renderer(
        renderer.tokenizer, "{{ raise_exception('no tools here') }}", renderer.stop_ids
    )
    row = render_row(refusing, chat(2))
    assert (row.input_ids, row.labels, row.problem) == ([], [], "no tools here")
    no_text = chat(2)
    no_text.messages[1]["content"] = None
    assert render_row(renderer, no_text).problem


def test_long_row_gives_no_warning(renderer: Renderer, caplog: pytest.LogCaptureFixture) -> None:
    long_row = chat(2)
    long_row.messages[0]["content"] = "x" * 5000
    assert len(render_row(renderer, long_row).input_ids) > 5000
    assert not caplog.records


def test_pieces_end_at_the_stop_token_before_white_space_and_other_stops(
    renderer: Renderer,
) -> None:
    stop, feed, letter = renderer.tokenizer.convert_tokens_to_ids(["<|im_end|>", "Ċ", "a"])
    ids = [letter, stop, feed, letter, letter]
    assert trim_spans(renderer, ids, [(0, 3)]) == (((0, 2),), True)
    assert trim_spans(renderer, ids, [(0, 4)]) == (((0, 4),), False)
    assert trim_spans(renderer, ids, [(0, 2), (3, 5)]) == (((0, 2), (3, 5)), False)
    assert trim_spans(renderer, ids, []) == ((), False)
    assert trim_spans(renderer, [letter, stop, feed, stop], [(0, 4)]) == (((0, 2),), True)
    assert trim_spans(renderer, [letter, feed, stop], [(0, 3)]) == (((0, 3),), True)


def test_pieces_that_touch_are_one_and_the_prompt_is_left_out() -> None:
    assert join_spans([(4, 6), (1, 2), (2, 4)], 0) == [(1, 6)]
    assert join_spans([(1, 3), (4, 6)], 2) == [(2, 3), (4, 6)]
    assert join_spans([(1, 3), (4, 6)], 5) == [(5, 6)]
    assert join_spans([(1, 3), (3, 3), (5, 5)], 0) == [(1, 3)]


def test_rows_come_in_order_whatever_their_number(renderer: Renderer) -> None:
    conversations = [chat(4 if number % 3 else 2) for number in range(1001)]
    found = list(render_rows(renderer, conversations))
    assert [conversation for conversation, _ in found] == conversations
    long_row, short_row = render_row(renderer, chat(4)), render_row(renderer, chat(2))
    assert all(row == (long_row if n % 3 else short_row) for n, (_, row) in enumerate(found))
    assert list(render_rows(renderer, [])) == []


def test_labels_are_the_ids_of_the_pieces() -> None:
    row = RenderedRow([5, 6, 7, 8, 9], ((1, 2), (3, 4)), True, True, 0)
    assert row.labels == [NOT_TRAINED, 6, NOT_TRAINED, 8, NOT_TRAINED]
    assert (row.n_supervised_tokens, row.supervised_end) == (2, 4)
    assert RenderedRow([5], (), False, True, 0).supervised_end == 0


def test_assistant_turn_with_weight_0_is_not_trained(renderer: Renderer) -> None:
    weighted = chat(4)
    weighted.messages[1]["weight"] = 0
    weighted.messages[3]["weight"] = 1
    row = render_row(renderer, weighted)
    assert trained_text(renderer, row) == "Ja ä.<|im_end|>"
    assert row.input_ids == render_row(renderer, chat(4)).input_ids
    weighted.messages[3]["weight"] = 0
    assert render_row(renderer, weighted).n_supervised_tokens == 0
    assert "weight" in weighted.messages[1]


def test_stop_tokens_come_from_the_generation_config_too(model: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    renderer = renderer_of(folder, tmp_path)
    assert renderer.stop_ids == {3, 4, renderer.tokenizer.eos_token_id}


def test_evaluation_prompt_ends_where_the_last_answer_begins(renderer: Renderer) -> None:
    assert render_prompt(renderer, chat(4)) == {
        "prompt": "<|im_start|>user\nHow tall?<|im_end|>\n<|im_start|>assistant\n"
        "Two metres.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "question": "Sure?",
        "reference": "Ja ä.",
        "n_turns": 2,
        "columns": {"topic": "walls"},
    }


def test_no_shipped_template_trains_what_its_prompt_supplies(renderer: Renderer) -> None:
    """Each trained piece of the last turn begins where the prompt of inference ends."""
    from trl.chat_template_utils import get_training_chat_template

    n_seen = 0
    for name, template in shipped_templates().items():
        tokenizer = copy.deepcopy(renderer.tokenizer)
        tokenizer.chat_template = template
        try:
            training = get_training_chat_template(tokenizer)
        except ValueError:
            continue
        texts = TextRenderer(tokenizer, str(training or template))
        [row] = texts.render([chat(2)])
        if row.problem or not row.text.startswith(row.prompt):
            continue
        assert row.spans[-1][0] >= len(row.prompt), name
        n_seen += 1
    assert n_seen > 10


def test_rows_are_no_longer_than_the_model_has_positions(renderer: Renderer) -> None:
    assert renderer.n_positions == 512
    assert renderer.longest_row(200) == 200
    assert renderer.longest_row(1024) == 512
    assert replace(renderer, n_positions=None).longest_row(1024) == 1024
