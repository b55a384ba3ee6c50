from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.run import RunConfig
from schemas.config.sweep import (
    OneOf,
    Range,
    SweepConfig,
    check_key,
    check_space,
    load_sweep,
    nest,
    parse_dimension,
    searchable_keys,
    with_settings,
)
from schemas.errors import ConfigError


def config_with(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"split": {"validation_fraction": 0.1}, "training": training})


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("learning_rate", "1e-5..1e-3:log", Range(low=1e-5, high=1e-3, is_log=True)),
        ("learning_rate", " 1e-5 .. 1e-3 : log ", Range(low=1e-5, high=1e-3, is_log=True)),
        ("warmup_ratio", "0...2", Range(low=0.0, high=0.2)),
        ("num_train_epochs", "1..3", Range(low=1.0, high=3.0)),
        ("lora.r", "4..64:log", Range(low=4, high=64, is_log=True)),
        ("per_device_train_batch_size", "1..4", Range(low=1, high=4)),
        ("neftune_noise_alpha", [None, 5], OneOf(choices=(None, 5))),
        ("packing", [True, False], OneOf(choices=(True, False))),
    ],
)
def test_dimension_is_read_from_a_range_or_a_list(key: str, text: Any, expected: Any) -> None:
    assert parse_dimension(key, text, "here") == expected


def test_range_is_whole_for_settings_that_are_whole_numbers() -> None:
    whole = parse_dimension("lora.r", "4..64", "here")
    real = parse_dimension("num_train_epochs", "1..3", "here")
    assert isinstance(whole, Range)
    assert isinstance(real, Range)
    assert [type(whole.low), type(whole.high)] == [int, int]
    assert [type(real.low), type(real.high)] == [float, float]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", 1e-4, "low..high"),
        ("learning_rate", "fast", "low..high"),
        ("learning_rate", "1..1e-3", "below the high"),
        ("learning_rate", "1e-3..1e999", "below the high"),
        ("learning_rate", "1e..2", "bounds that are numbers"),
        ("learning_rate", "0..1e-3:log", "above 0"),
        ("lora.r", "1.5..4", "whole numbers"),
        ("packing", "0..1", "not a number"),
        ("lora.r", [8], "two different"),
        ("lora.r", [8, 8], "two different"),
        ("lora.target_modules", [["q_proj"], ["k_proj"]], "plain values"),
    ],
)
def test_values_that_cannot_be_searched_are_refused(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        parse_dimension(key, value, "--search x")
    assert expected in caught.value.expected
    assert caught.value.where == "--search x"


def test_key_may_carry_the_name_of_its_section() -> None:
    assert check_key("training.lora.r", "here") == check_key("lora.r", "here") == "lora.r"


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("learning_rat", "did you mean learning_rate?"),
        ("training.lora.rank_of_it", "search one of"),
        ("split.eval_fraction", "search one of"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(key: str, fix: str) -> None:
    with pytest.raises(ConfigError, match="not a setting of the training section") as caught:
        check_key(key, "here")
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("key", ["save_steps", "device", "guards.spike_factor", "eval_steps"])
def test_key_that_shapes_nothing_learned_is_refused(key: str) -> None:
    assert key not in list(searchable_keys())
    with pytest.raises(ConfigError, match="does not shape what is learned"):
        check_key(key, "here")


def test_sweep_is_read_from_file_and_command_line(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "trials: 7\nstartup_trials: 2\nsearch:\n  learning_rate: 1e-5..1e-3:log\n"
        "  lora:\n    r: [8, 16]\n"
    )
    sweep, places = load_sweep(path, ["learning_rate=1e-4..1e-2:log"], {"trials": 9})
    assert sweep == SweepConfig(
        search={
            "learning_rate": Range(low=1e-4, high=1e-2, is_log=True),
            "lora.r": OneOf(choices=(8, 16)),
        },
        trials=9,
        startup_trials=2,
    )
    assert places["lora.r"] == f"{path}:6"
    assert places["learning_rate"].startswith("--search")


def test_sweep_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('trials = 7\n[search]\nlearning_rate = "1e-5..1e-3:log"\nlora.r = [8, 16]\n')
    sweep, places = load_sweep(path, [], {})
    assert sweep.trials == 7
    assert sweep.search["lora.r"] == OneOf(choices=(8, 16))
    assert places["learning_rate"] == str(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("search: [1", "not valid YAML"),
        ("- learning_rate", "the sweep is not a set of keys and values"),
        ("search: fast", "search of the sweep"),
        ("trials: 3", "nothing is named to search"),
        ("search: {lora.r: [1, 2]}\ntrials: 0", "trials of the sweep"),
        ("search: {lora.r: [1, 2]}\nspeed: 1", "speed of the sweep"),
        ("search: {lora.r: [1, 2]}\ntimeout_seconds: .inf", "timeout_seconds of the sweep"),
    ],
)
def test_bad_sweep_file_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=match) as caught:
        load_sweep(path, [], {})
    assert caught.value.fix
    assert str(path) in caught.value.where


def test_missing_sweep_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the sweep file does not exist"):
        load_sweep(tmp_path / "none.yaml", [], {})


@pytest.mark.parametrize("text", ["learning_rate", "lora.r=[8, 16", ""])
def test_bad_search_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a search is not of the form key=values") as caught:
        load_sweep(None, [text], {})
    assert (caught.value.where, caught.value.got) == (f"--search {text}", text)
    assert caught.value.expected.startswith("a key and low..high, low..high:log or a list")
    assert caught.value.fix == (
        "write it as one argument, e.g. --search learning_rate=1e-5..1e-3:log"
    )


def test_values_of_a_search_may_have_an_equals_sign() -> None:
    sweep, _ = load_sweep(None, ["lr_scheduler_type=[a=1, a=2]"], {})
    assert sweep.search == {"lr_scheduler_type": OneOf(choices=("a=1", "a=2"))}


def test_sweep_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is named to search") as caught:
        load_sweep(None, [], {})
    assert (caught.value.where, caught.value.got) == ("the command line", "none")
    assert caught.value.expected == "at least one setting of the training section"
    assert caught.value.fix == "add e.g. --search learning_rate=1e-5..1e-3:log"


def check(config: RunConfig, *searches: str) -> None:
    sweep, places = load_sweep(None, searches, {})
    check_space(config, sweep, places)


def test_space_is_accepted_up_to_the_limits_of_the_training() -> None:
    scheduler = "lr_scheduler_type=[cosine, linear]"
    check(config_with(), "learning_rate=1e-5..0.999:log", scheduler)
    with pytest.raises(ConfigError) as caught:
        check(config_with(), "learning_rate=1e-5..1:log", scheduler)
    assert caught.value.where == "--search learning_rate=1e-5..1:log"


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("learning_rate=1e-5..2", "less than 1"),
        ("lora.r=0..8", "greater than or equal to 1"),
        ("lr_scheduler_type=[cosine, zigzag]", "lr_scheduler_type must be one of"),
    ],
)
def test_corner_beyond_the_limits_is_refused(search: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(config_with(), search)
    assert expected in caught.value.expected
    assert caught.value.where == f"--search {search}"


def test_search_that_clashes_with_the_configuration_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        check(config_with(gradient_accumulation_steps=2), "effective_batch_size=4..8")
    assert "not both" in caught.value.expected


@pytest.mark.parametrize(
    ("training", "search", "because"),
    [
        ({"max_steps": 5}, "num_train_epochs=1..3", "max_steps is 5"),
        ({"method": "full"}, "lora.r=4..8", "method is full"),
    ],
)
def test_setting_without_effect_is_refused(
    training: dict[str, Any], search: str, because: str
) -> None:
    with pytest.raises(ConfigError, match=because):
        check(config_with(**training), search)


def test_sweep_without_validation_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rows are kept for validation") as caught:
        check(RunConfig(), "lora.r=4..8")
    assert caught.value.fix == "set split.validation_fraction=0.1"
    assert (caught.value.where, caught.value.got) == ("split.validation_fraction", "0")
    assert caught.value.expected.startswith("a share of the rows; held-out evaluation rows")


def test_settings_are_put_beside_those_of_the_user() -> None:
    config = config_with(lora={"alpha": 64}, max_steps=9)
    tuned = with_settings(config, {"lora.r": 8, "learning_rate": 0.002})
    assert (tuned.training.lora.r, tuned.training.lora.alpha) == (8, 64)
    assert (tuned.training.learning_rate, tuned.training.max_steps) == (0.002, 9)
    assert config.training.lora.r == 16
    with pytest.raises(ValidationError):
        with_settings(config, {"lora.r": 0})


def test_nest_leaves_what_it_is_given_as_it_is() -> None:
    base = {"lora": {"alpha": 4}}
    assert nest({"lora.r": 8}, base) == {"lora": {"alpha": 4, "r": 8}}
    assert base == {"lora": {"alpha": 4}}
