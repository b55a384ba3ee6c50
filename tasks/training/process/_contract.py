"""Check the template contract on the training rows: the model trains on what inference asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import NoLabels, TrainingContractBroken
from tasks.chat_template.contract import render
from tasks.chat_template.probes import make_probes
from tasks.engine.jsonl import read_lines
from tasks.tokens.rendering import stop_ids
from tasks.tokens.token_file import NOT_TRAINED, TokenRows, count_rows, read_token_rows
from tasks.training.process.spec import TrainingSpec

if TYPE_CHECKING:
    import numpy
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import DataCollator, PreTrainedTokenizerBase

SAMPLE_ROWS = 64
"""Rows that are decoded or compared with their prompts; the other rules check every row."""
SHOWN_TOKENS = 24
RERUN = "set the data gate's rule {rule} to block, which leaves such rows out, and run again"
TEMPLATE = "the rows were not made with this model's chat template: run the flow from the start"


@dataclass(frozen=True)
class RowRules:
    """What rows are checked against, read from the tokenizer and its template."""

    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    marker: str
    """Text that opens an answer."""
    has_bos_per_turn: bool
    """Some templates open every turn with the BOS token."""

    def show(self, ids: NDArray[numpy.int32]) -> str:
        """Format the first few tokens for a message."""
        text = str(self.tokenizer.decode(ids[:SHOWN_TOKENS].tolist(), skip_special_tokens=False))
        return repr(text) + (" …" if len(ids) > SHOWN_TOKENS else "")


def check_contract(spec: TrainingSpec, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check the tokenised training rows against the template contract, before the first step.

    Args:
        spec: Where the rows, the prepared model and the prompts of inference are.
        tokenizer: Of the prepared model, with its inference template.

    Raises:
        NoLabels: A row has no token to train on.
        TrainingContractBroken: A row breaks the contract; the message contains row and rule.
        TemplateError: The template cannot render a plain conversation.
    """
    rules = read_rules(spec.model, tokenizer)
    prompts = _read_prompts(spec.inference_prompts)
    stride = max(1, count_rows(spec.train_tokens) // SAMPLE_ROWS)
    n_before = n_compared = 0
    for rows in read_token_rows(spec.train_tokens):
        _check_labels(rows, rules)
        _check_bos(rows, rules)
        for index in range(-n_before % stride, len(rows.numbers), stride):
            _check_marker(rows, index, rules)
        for index, number in enumerate(rows.numbers.tolist() if prompts else ()):
            if number in prompts:
                _check_prompt(rows, index, prompts[number], rules)
                n_compared += 1
        n_before += len(rows.numbers)
    if prompts and not n_compared:
        raise TrainingContractBroken(
            "none of the prompts belongs to a training row",
            where=str(spec.inference_prompts),
            expected=f"row numbers of {spec.train_tokens}",
            got=", ".join(map(str, list(prompts)[:5])),
            fix=TEMPLATE,
        )


def read_rules(model: Path, tokenizer: PreTrainedTokenizerBase) -> RowRules:
    """Find out how the template writes an answer, with a probe conversation."""
    probe = make_probes()[1]  # two turns, no system message
    asked, question = probe.before(1), probe.messages[0]["content"]
    prompt = render(tokenizer, asked, add_generation_prompt=True)
    without = render(tokenizer, asked)
    marker = prompt.removeprefix(without).strip() if prompt.startswith(without) else ""
    # Some templates close the question with what opens the answer, and add nothing for generation.
    marker = marker or prompt[prompt.rindex(question) + len(question) :].strip()
    ids = tokenizer(render(tokenizer, probe.messages), add_special_tokens=False)["input_ids"]
    return RowRules(
        tokenizer, stop_ids(model, tokenizer), marker, tokenizer.bos_token_id in ids[1:]
    )


def _check_labels(rows: TokenRows, rules: RowRules) -> None:
    """Check that each row has labels, which are its tokens, and that answers end with a stop."""
    import numpy

    is_trained = rows.labels != NOT_TRAINED
    n_before = numpy.concatenate([[0], numpy.cumsum(is_trained)])[rows.starts]
    for index in numpy.flatnonzero(n_before[1:] == n_before[:-1])[:1]:
        raise NoLabels(
            "a training row has no token to train on",
            where=f"training row {rows.numbers[index]}",
            expected="labels",
            got=rules.show(rows.row(index)[0]),
            fix=RERUN.format(rule="no_supervised_tokens"),
        )
    for place in numpy.flatnonzero(is_trained & (rows.labels != rows.ids))[:1]:
        raise _breach(
            rows,
            rows.row_of(place),
            "a label differs from its token",
            (rules.show(rows.ids[place : place + 1]), rules.show(rows.labels[place : place + 1])),
            TEMPLATE,
        )
    is_end = is_trained.copy()
    is_end[:-1] &= ~is_trained[1:]
    is_end[rows.starts[1:] - 1] = is_trained[rows.starts[1:] - 1]
    is_stop = numpy.isin(rows.labels, list(rules.stop_ids))
    for place in numpy.flatnonzero(is_end & ~is_stop)[:1]:
        stops = rules.tokenizer.convert_ids_to_tokens(sorted(rules.stop_ids))
        raise _breach(
            rows,
            rows.row_of(place),
            "the model would not learn to stop: an answer's last trained token is no stop token",
            (" or ".join(stops), rules.show(rows.ids[place : place + 1])),
            RERUN.format(rule="stop_token_not_supervised"),
        )


def _check_bos(rows: TokenRows, rules: RowRules) -> None:
    """Check that only the first token of a row is a BOS token."""
    import numpy

    bos = rules.tokenizer.bos_token_id
    if bos is None:
        return
    is_inner = rows.ids == bos
    is_inner[rows.starts[:-1]] = False
    if rules.has_bos_per_turn:
        is_inner[1:] &= rows.ids[:-1] == bos
    for place in numpy.flatnonzero(is_inner)[:1]:
        raise _breach(
            rows,
            rows.row_of(place),
            "a BOS token comes after the start of the row",
            ("one at most, and first", rules.show(rows.ids[max(place - 4, 0) : place + 4])),
            RERUN.format(rule="double_bos"),
        )


def _check_marker(rows: TokenRows, index: int, rules: RowRules) -> None:
    """Check that an answer is opened as the template opens it."""
    ids, labels = rows.row(index)
    end = int((labels != NOT_TRAINED).nonzero()[0][-1])
    text = str(rules.tokenizer.decode(ids[:end].tolist(), skip_special_tokens=False))
    if rules.marker not in text:
        raise _breach(
            rows,
            index,
            "the row lacks the template's role markers",
            (repr(rules.marker), rules.show(ids)),
            TEMPLATE,
        )


def _check_prompt(rows: TokenRows, index: int, prompt: str, rules: RowRules) -> None:
    """Check that the row begins with the prompt of inference and continues with the answer."""
    import numpy

    ids, labels = rows.row(index)
    asked = numpy.array(
        rules.tokenizer(prompt, add_special_tokens=False)["input_ids"], dtype=ids.dtype
    )
    n_asked = len(asked)
    if n_asked > len(ids) or (ids[:n_asked] != asked).any():
        n_both = min(n_asked, len(ids))
        differs = numpy.append(ids[:n_both] != asked[:n_both], True)
        n_same = int(differs.argmax())
        first = max(n_same - SHOWN_TOKENS // 2, 0)
        raise _breach(
            rows,
            index,
            f"the row does not begin with the prompt of inference: they differ at token {n_same}",
            (rules.show(asked[first:]), rules.show(ids[first:])),
            RERUN.format(rule="prompt_not_prefix"),
        )
    is_trained = labels[n_asked:] != NOT_TRAINED
    if is_trained.any() and not is_trained[0]:
        n_between = int(is_trained.argmax())
        raise _breach(
            rows,
            index,
            "tokens between the prompt of inference and the trained answer are not trained",
            ("an answer right after the prompt", rules.show(ids[n_asked : n_asked + n_between])),
            "let {% generation %} of the training template begin where the prompt ends",
        )


def _breach(
    rows: TokenRows, index: int, problem: str, texts: tuple[str, str], fix: str
) -> TrainingContractBroken:
    expected, got = texts
    where = f"training row {rows.numbers[index]}"
    return TrainingContractBroken(problem, where=where, expected=expected, got=got, fix=fix)


def _read_prompts(path: Path | None) -> Mapping[int, str]:
    lines = islice(read_lines(path), SAMPLE_ROWS) if path else ()
    return {line["row"]: line["prompt"] for line in lines}


def check_padding(collator: DataCollator, rows: Dataset) -> None:
    """Check that batches train the labels of their rows, and no padding.

    Then the pad token may be the stop token, too.

    Args:
        collator: The trainer's.
        rows: The trainer's rows; two of different lengths are tried.

    Raises:
        TrainingContractBroken: A batch has other trained tokens than its rows.
    """
    examples = [dict(row) for row in islice(rows, SAMPLE_ROWS)]
    examples.sort(key=lambda row: len(row["input_ids"]))
    examples = [examples[0], examples[-1]]
    expected, first_left_out = _trained_tokens(examples)
    batch = collator([dict(row) for row in examples])
    is_trained = batch["labels"] != NOT_TRAINED
    trained = batch["labels"][is_trained].tolist()
    is_same = (batch["input_ids"][is_trained] == batch["labels"][is_trained]).all()
    if trained not in (expected, first_left_out) or not is_same:
        raise TrainingContractBroken(
            "a padded batch trains other tokens than its rows",
            where=type(collator).__name__,
            expected=f"{len(expected)} trained tokens",
            got=f"{len(trained)}, or other ones",
            fix="report this with the versions of trl and transformers: padding is masked wrongly",
        )


def _trained_tokens(examples: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """List the labels of rows, with and without the first of each row, which is never predicted."""
    every, first_left_out = [], []
    for row in examples:
        place = 0
        for length in row.get("seq_lengths") or [len(row["labels"])]:
            labels = row["labels"][place : place + length]
            every += [label for label in labels if label != NOT_TRAINED]
            first_left_out += [label for label in labels[1:] if label != NOT_TRAINED]
            place += length
    return every, first_left_out
