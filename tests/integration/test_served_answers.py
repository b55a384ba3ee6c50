"""Answers of a server made by others, `transformers serve`: those of our own generation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.train_sft import train_sft
from schemas.config.evaluation import Endpoint, EvaluationConfig
from schemas.config.run import RunConfig
from schemas.records.stages import Stage
from tasks.engine.cache import locate
from tasks.engine.journal import last_flow_run_id, read_entries
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation._held_out import measure_held_out
from tasks.models.prepared import load_prepared_tokenizer
from tasks.registry.store import alias_holder, connect
from tests.integration.conftest import ToyRun, record_calls
from tests.support.parts import OPENAI
from tests.support.toy import (
    add_beginning,
    make_toy_model,
    strengthen_layers,
    tokenise_toy_row,
    toy_rows,
    write_jsonl,
)

pytestmark = [pytest.mark.integration, OPENAI.mark]

COMMAND = (
    f"{Path(sys.executable).with_name('transformers')} serve {{model}} "
    "--host 127.0.0.1 --port {port} --device cpu --dtype float32"
)
N_PROMPTS = 10
STOPS = (224, 148)
"""Tokens that end some of the toy model's answers."""


def make_model(folder: Path) -> Path:
    """Make a model with what servers could miss: a beginning, several stop tokens, a penalty."""
    strengthen_layers(make_toy_model(folder))
    add_beginning(folder)
    tokenizer = load_prepared_tokenizer(folder)
    stops = tokenizer.convert_ids_to_tokens(list(STOPS))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *stops]})
    tokenizer.save_pretrained(folder)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    ends = [settings["eos_token_id"], *STOPS]
    path.write_text(json.dumps(settings | {"eos_token_id": ends, "repetition_penalty": 1.3}))
    return folder


def write_rows(folder: Path, model: Path) -> Path:
    """Write pinned rows as `check_quality` leaves them."""
    import pyarrow
    import pyarrow.parquet as parquet

    folder.mkdir()
    tokenizer = load_prepared_tokenizer(model)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(toy_rows(N_PROMPTS)):
        messages = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert prompt.startswith("<s>")
        asked = {"prompt": prompt, "messages": messages, "reference": row["completion"]}
        rows.append({"row": number, **asked})
    write_jsonl(folder / "eval_prompts.jsonl", rows)
    tokens = [tokenise_toy_row(model, number) for number in range(N_PROMPTS)]
    parquet.write_table(pyarrow.Table.from_pylist(tokens), folder / "eval_tokens.parquet")
    return folder


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_answers_are_those_of_our_own_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = make_model(tmp_path / "model")
    quality = write_rows(tmp_path / "quality", model)
    own = {"max_new_tokens": 24, "n_generation_rows": N_PROMPTS}
    served = own | {"server": {"command": COMMAND, "endpoint": endpoint}}
    found = []
    for name, settings in (("own", own), ("served", served)):
        (tmp_path / name).mkdir()
        evaluation = EvaluationConfig.model_validate(settings)
        measure_held_out((model, model), quality, evaluation, 1, tmp_path / name)
        found.append(read_jsonl(tmp_path / name / "answers.jsonl"))
    assert {row["is_stopped"] for row in found[0]} == {True, False}
    assert len({row["answer"] for row in found[0]}) == N_PROMPTS
    assert found[1] == found[0]


def test_flow_compares_models_that_the_same_server_answered(toy_run: ToyRun) -> None:
    settings = toy_run.config.model_dump(mode="json")
    settings["evaluation"]["server"] = {"command": COMMAND}
    settings["registry"]["name"] = "toy-served"
    config = RunConfig.model_validate(settings)
    report = json.loads(locate(train_sft(config), "report.json").read_text(encoding="utf-8"))
    events = {entry.stage: entry.event for entry in read_entries(last_flow_run_id() or "")}
    assert events["train_model"] == "HIT"
    assert (events["generate_baseline"], events["evaluate_model"]) == ("MISS", "MISS")
    assert report["decision"] == "promote"
    assert alias_holder(connect(), "toy-served", "champion") == report["registry"]["version"]
    assert set(record_calls(config)) == set(Stage)  # it goes to the end: everything is cached
    assert list(toy_run.home.glob("evaluation-server-*.log")) == []
