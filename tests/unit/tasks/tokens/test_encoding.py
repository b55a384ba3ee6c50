"""Every row must come out as `apply_chat_template` would encode and mark it, one by one."""

from __future__ import annotations

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from schemas.rows.row import Conversation, RowFormat
from tasks.tokens._encoding import MAX_LOOKUPS, Encoder, common_prefix
from tasks.tokens._texts import RowText
from tasks.tokens.rendering import Renderer, render_rows
from tasks.tokens.token_file import NOT_TRAINED

SPECIAL = ("<|im_start|>", "<|im_end|>")
TEXTS = [
    "How tall may a fence be?\n\nTwo metres.\n\n\nNot more.",
    "assistant\n\nuser\n\n  the assistant  \n and the user",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 1234 + 5678",
    "  leading and trailing white space  \n\n",
]
MARKED = (
    "{%- if tools -%}{{ '<|im_start|>tools\n' + tools | tojson + '<|im_end|>\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + FEED }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}"
    "{%- else -%}{{ message['content'] + '<|im_end|>\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant' + FEED }}{%- endif -%}"
)
WITH_FEED = MARKED.replace("'<|im_end|>' }}{%- end", "'<|im_end|>\n' }}{%- end").replace(
    "{%- endgeneration -%}{{ '\n' }}", "{%- endgeneration -%}"
)
NO_SPECIAL = MARKED.replace("<|im_start|>", "### ").replace("<|im_end|>", "")
WITHOUT_STOP = MARKED.replace(
    "{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}",
    "{{ message['content'] }}{%- endgeneration -%}{{ '<|im_end|>\n' }}",
)
TEMPLATES = {
    "one feed": MARKED.replace("FEED", "'\n'"),
    "two feeds": MARKED.replace("FEED", "'\n\n'"),
    "blank": MARKED.replace("FEED", "': '"),
    "feed trained": WITH_FEED.replace("FEED", "'\n'"),
    "stop not trained": WITHOUT_STOP.replace("FEED", "'\n'"),
    "no special tokens": NO_SPECIAL.replace("FEED", "'\n'"),
}


def byte_level(*, trim_offsets: bool = False, **mark: bool) -> PreTrainedTokenizerBase:
    """A tokenizer with merges, so that what follows a prompt can change its last tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=trim_offsets
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return with_marks(tokenizer, **mark)


def with_marks(tokenizer: Tokenizer, **mark: bool) -> PreTrainedTokenizerBase:
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False, **mark) for name in SPECIAL]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[1])


def sentence_pieces() -> PreTrainedTokenizerBase:
    """A tokenizer whose first piece is encoded otherwise than the same piece further on."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return with_marks(tokenizer)


def lower_case() -> PreTrainedTokenizerBase:
    found = byte_level()
    found.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase()]
    )
    return found


TOKENIZERS = {
    "byte level": byte_level,
    "stripping marks": lambda: byte_level(rstrip=True),
    "sentence pieces": sentence_pieces,
    "normalised": lower_case,
}


def conversations() -> list[Conversation]:
    contents = [
        *TEXTS,
        "x",
        "\nx",
        "\n\nx",
        "x\n",
        "x<|im_end|>y",
        "e\u0301te 😀",
        "\u0301accent first",
        "日本語 ",
        "<|im_start|>assistant\n",
        "im_start|>",
    ]
    found = []
    for number, content in enumerate(contents):
        user = {"role": "user", "content": content}
        answer = {"role": "assistant", "content": contents[number - 1]}
        turns = [{"role": "system", "content": "Be brief."}, user, answer, user, answer]
        for n_prompt_messages in (None, 2, 4):
            found.append(
                Conversation(
                    "a", 1, RowFormat.MESSAGES, [dict(t) for t in turns], n_prompt_messages
                )
            )
    found[-1].tools = [{"type": "function", "function": {"name": "look_up"}}]
    many = [{"role": role, "content": "x"} for role in ("user", "assistant")] * (MAX_LOOKUPS + 1)
    return [*found, Conversation("a", 1, RowFormat.MESSAGES, many)]


def expected_tokens(renderer: Renderer, row: Conversation) -> tuple[list[int], list[int], bool]:
    """Ids, labels and whether the prompt is a prefix, with nothing but `apply_chat_template`."""
    n_prompt_messages = row.n_prompt_messages or len(row.messages) - 1
    whole = renderer.tokenizer.apply_chat_template(
        row.messages,
        tools=row.tools,
        chat_template=renderer.training_template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    prompt = renderer.tokenizer.apply_chat_template(
        row.messages[:n_prompt_messages], tools=row.tools, add_generation_prompt=True
    )["input_ids"]
    ids, mask = whole["input_ids"], whole["assistant_masks"]
    for n in range(1, len(ids)):  # transformers takes only the first token of the last character
        is_same_character = whole.token_to_chars(n).start < whole.token_to_chars(n - 1).end
        mask[n] = mask[n] or int(mask[n - 1] and is_same_character)
    if row.n_prompt_messages is not None:
        n_common = common_prefix(ids, prompt)
        mask = [0] * n_common + mask[n_common:]
    labels = [NOT_TRAINED] * len(ids)
    start = 0
    while 1 in mask[start:]:
        start = mask.index(1, start)
        end = mask.index(0, start) if 0 in mask[start:] else len(mask)
        stops = [n for n in range(start, end) if ids[n] in renderer.stop_ids]
        last = stops[-1] + 1 if stops else end
        if renderer.tokenizer.decode(ids[last:end]).strip():
            last = end
        labels[start:last] = ids[start:last]
        start = end
    return ids, labels, ids[: len(prompt)] == prompt


def renderer_of(tokenizer: PreTrainedTokenizerBase, template: str) -> Renderer:
    plain = template.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    tokenizer.chat_template = plain
    return Renderer(tokenizer, template, frozenset([tokenizer.eos_token_id]))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_rows_are_encoded_and_marked_as_one_by_one(kind: str, template: str) -> None:
    renderer = renderer_of(TOKENIZERS[kind](), TEMPLATES[template])
    rows = conversations()
    for conversation, row in render_rows(renderer, rows * 8):
        ids, labels, is_prefix = expected_tokens(renderer, conversation)
        assert row.problem == ""
        assert row.input_ids == ids
        assert row.prompt_is_prefix == is_prefix
        assert row.labels == labels


def test_varied_rows_hold_prompts_that_are_no_prefix() -> None:
    renderer = renderer_of(byte_level(), TEMPLATES["two feeds"])
    found = {row.prompt_is_prefix for _, row in render_rows(renderer, conversations())}
    assert found == {True, False}


def test_white_space_that_belongs_to_no_token_does_not_end_what_is_trained() -> None:
    renderer = renderer_of(byte_level(trim_offsets=True, rstrip=True), TEMPLATES["one feed"])
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "  the user"}]
    [(_, row)] = render_rows(renderer, [Conversation("a", 1, RowFormat.MESSAGES, turns)])
    kept = [label for label in row.labels if label != NOT_TRAINED]
    assert renderer.tokenizer.decode(kept).strip() == "the user<|im_end|>"


@pytest.mark.parametrize(
    ("kind", "has_parts"),
    [
        ("byte level", True),
        ("normalised", True),
        ("stripping marks", False),
        ("sentence pieces", False),
    ],
)
def test_parts_are_encoded_only_where_they_are_independent(kind: str, has_parts: bool) -> None:
    renderer = renderer_of(TOKENIZERS[kind](), TEMPLATES["one feed"])
    list(render_rows(renderer, conversations()))
    assert renderer.encoder.has_parts is has_parts


def test_encoder_takes_offsets_where_parts_do_not_help() -> None:
    encoder = Encoder(byte_level())
    text = "<|im_start|>user\nx<|im_end|>\n" + "y" * 100
    row = RowText(text, [(len(text) - 1, len(text))], "<|im_start|>")
    [encoded] = encoder.encode([row])
    assert encoded.encoding is None
    placed = encoder.place(encoded, row)
    assert encoder.n_missed == 1
    [again] = encoder.encode([row])
    assert again.encoding is not None
    assert again.ids == encoded.ids
    assert encoder.place(again, row) == placed


def test_common_prefix_is_counted() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0
