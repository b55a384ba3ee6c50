from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.run import DataSource, RunConfig, seed_of

TWO: dict[str, Any] = {"new": {"source": "b.jsonl", "weight": 0.5}, "faq": {"source": "a.jsonl"}}


def refusal(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(settings)
    return str(caught.value)


def test_one_source_has_no_name_and_no_weight() -> None:
    data = RunConfig.model_validate({"data": {"source": {"source": "a.jsonl"}}}).data
    assert (data.origin, data.weights) == (DataSource(source="a.jsonl"), {})


def test_several_sources_are_told_apart_by_name_and_weights_stand_aside() -> None:
    config = RunConfig.model_validate({"data": {"sources": TWO}})
    assert config.data.origin == {
        "faq": DataSource(source="a.jsonl"),
        "new": DataSource(source="b.jsonl"),
    }
    assert {type(source) for source in dict(config.data.origin).values()} == {DataSource}
    assert config.data.weights == {"faq": 1.0, "new": 0.5}


def test_saved_configuration_reads_back() -> None:
    settings = {"data": {"sources": TWO}, "model": {"continue_from": "champion"}}
    config = RunConfig.model_validate(settings)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_source_and_sources_exclude_each_other() -> None:
    text = refusal(data={"source": {"source": "a.jsonl"}, "sources": TWO})
    assert "set data.source or data.sources, not both" in text


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "-a", "x" * 51])
def test_name_of_a_source_must_be_plain(name: str) -> None:
    assert "is not a name of letters" in refusal(data={"sources": {name: {"source": "a.jsonl"}}})


@pytest.mark.parametrize("weight", [0, -1, "nan", 1001])
def test_weight_must_be_sensible(weight: object) -> None:
    text = refusal(data={"sources": {"a": {"source": "a.jsonl", "weight": weight}}})
    assert "data.sources.a.weight" in text


@pytest.mark.parametrize("name", ["", "cp1252", "UTF-16-LE", "latin-1"])
def test_encoding_is_one_of_texts(name: str) -> None:
    config = RunConfig.model_validate({"data": {"source": {"encoding": name}}})
    assert config.data.source.encoding == name


@pytest.mark.parametrize("name", ["base64", "windows-9999", "rot13"])
def test_encoding_that_is_none_is_refused(name: str) -> None:
    text = refusal(data={"source": {"encoding": name}})
    assert f"{name!r} is not an encoding of texts, such as cp1252" in text


def test_rows_must_be_left_to_train() -> None:
    assert "less than 1" in refusal(split={"eval_fraction": 0.6, "validation_fraction": 0.4})
    RunConfig.model_validate({"split": {"eval_fraction": 0.6, "validation_fraction": 0.3}})


def test_measuring_needs_validation_rows() -> None:
    text = refusal(training={"eval_steps": 5})
    assert "training.eval_steps" in text
    assert "split.validation_fraction" in text
    RunConfig.model_validate(
        {"training": {"eval_steps": 5}, "split": {"validation_fraction": 0.05}}
    )


def test_alias_to_continue_from_belongs_to_the_registered_name() -> None:
    registry = {"name": "faq model"}
    for given, address in {
        "champion": "models:/faq model@champion",
        "models:/other@best": "models:/other@best",
    }.items():
        config = RunConfig.model_validate({"registry": registry, "model": {"continue_from": given}})
        assert config.start.continue_from == address
        assert config.start.source == config.model.source
    assert RunConfig().start == RunConfig().model


@pytest.mark.parametrize("wrong", ["models:/faq/3", "models:/faq", "a b", "", "@champion"])
def test_only_an_alias_can_be_continued_from(wrong: str) -> None:
    assert "continue_from" in refusal(model={"continue_from": wrong})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("messages", "is set by sft-flow"),
        ("tools", "is set by sft-flow"),
        ("add_generation_prompt", "is set by sft-flow"),
        ("bos_token", "is set by sft-flow"),
        ("a-b", "is not the name of a variable"),
        ("none", "is not the name of a variable"),
        ("", "is not the name of a variable"),
    ],
)
def test_variables_of_a_template_have_names_of_their_own(name: str, problem: str) -> None:
    assert problem in refusal(template={"kwargs": {name: 1}})


def test_variables_of_a_template_are_json_values() -> None:
    assert "is no JSON" in refusal(template={"kwargs": {"depth": [float("nan")]}})
    assert "is no JSON" in refusal(template={"kwargs": {"mood": "\ud83d"}})
    kwargs = {"enable_thinking": False, "reasoning_effort": "low", "depth": {"most": [1, None]}}
    config = RunConfig.model_validate({"template": {"kwargs": kwargs}})
    assert config.template.kwargs == kwargs
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_split_and_training_take_the_seed_of_the_run_unless_they_have_one() -> None:
    config = RunConfig(seed=7)
    assert (seed_of(config, config.split), seed_of(config, config.training)) == (7, 7)
    own = RunConfig.model_validate({"seed": 7, "split": {"seed": 0}, "training": {"seed": 3}})
    assert (seed_of(own, own.split), seed_of(own, own.training)) == (0, 3)
