from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.file import load_config
from schemas.config.run import RunConfig
from schemas.config.training import Method
from schemas.errors import ConfigError
from schemas.rule_ids import RowRule, Severity


def fail(path: Path | None = None, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return caught.value


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_load_config_without_a_file_gives_the_defaults() -> None:
    assert load_config() == RunConfig()


def test_load_config_reads_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "seed: 7\ntraining:\n  method: full\n  learning_rate: 5e-5\n")
    config = load_config(path)
    assert (config.seed, config.training.method) == (7, Method.FULL)
    assert config.training.learning_rate == 5e-5


def test_load_config_reads_toml(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", "seed = 7\n[data.source.columns]\nprompt = 'question'\n")
    config = load_config(path)
    assert config.seed == 7
    assert config.data.source.columns == {"prompt": "question"}


def test_load_config_takes_an_empty_file_for_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "a.yml", "# nothing\n")) == RunConfig()


def test_override_goes_before_the_file_and_keeps_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "training:\n  max_steps: 3\n  learning_rate: 0.1\n")
    config = load_config(path, ["training.learning_rate=1e-4", "seed=1", "seed=2"])
    assert (config.training.max_steps, config.training.learning_rate, config.seed) == (3, 1e-4, 2)


def test_override_reaches_keys_of_a_dict() -> None:
    config = load_config(None, ["data.rules.roles_not_alternating.severity=off"])
    assert config.data.rules[RowRule.ROLES_NOT_ALTERNATING].severity is Severity.OFF


def test_override_takes_lists_mappings_and_null() -> None:
    config = load_config(
        None,
        [
            "training.lora.target_modules=[q_proj, v_proj]",
            "data.source.columns={prompt: question, completion: answer}",
            "training.max_steps=null",
            "data.source.revision=2024-01-01",
        ],
    )
    assert config.training.lora.target_modules == ("q_proj", "v_proj")
    assert config.data.source.columns == {"prompt": "question", "completion": "answer"}
    assert config.training.max_steps is None
    assert config.data.source.revision == "2024-01-01"


def test_weight_of_one_of_several_sources_can_be_overridden(tmp_path: Path) -> None:
    text = "data:\n  sources:\n    new: {source: b.jsonl}\n    faq: {source: a.jsonl, weight: 2}\n"
    config = load_config(write(tmp_path, "a.yaml", text), ["data.sources.new.weight=0.5"])
    assert config.data.weights == {"faq": 2.0, "new": 0.5}
    error = fail(tmp_path / "a.yaml", "data.sources.new.wieght=0.5")
    assert error.what == "unknown configuration key data.sources.new.wieght"
    assert "weight" in error.fix
    error = fail(tmp_path / "a.yaml", "data.sources.new.weight=0")
    assert error.where == "--set data.sources.new.weight=0"
    assert error.expected == "greater than 0"


def parts(error: ConfigError) -> tuple[str, str, str, str]:
    return error.what, error.expected, error.got, error.fix


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "no.yaml",
            None,
            (
                "the configuration file does not exist",
                "a .yaml, .yml or .toml file",
                "no such file",
                "correct the path after -c; relative paths start in the current folder",
            ),
        ),
        (
            ".yaml",
            None,
            (
                "the configuration file has an unknown ending",
                ".yaml, .yml, .toml",
                "no ending",
                "write the configuration as YAML or TOML with one of these endings",
            ),
        ),
        (
            "a.yaml",
            "a: [1,\nb: }\n",
            (
                "the configuration file is not valid YAML",
                "keys and values, indented with spaces, each key once",
                "expected the node content, but found '}'",
                "fix that line",
            ),
        ),
        (
            "a.toml",
            "seed = = 2\n",
            (
                "the configuration file is not valid TOML",
                "key = value lines under [section] headings",
                "Invalid value",
                "fix that line",
            ),
        ),
        (
            "a.yaml",
            "- seed\n",
            (
                "the configuration is not a set of keys and values",
                "keys such as seed, data, split, model",
                "list",
                "write `key: value` lines, or `section:` lines with indented `key: value` lines below",
            ),
        ),
        (
            "a.toml",
            "a = " + "[" * 60 + "]" * 60,
            (
                "the settings are nested too deeply",
                "at most 50 levels",
                "more",
                "write the keys as docs/configuration.md lists them",
            ),
        ),
    ],
)
def test_file_that_is_no_configuration_is_one_clear_error(
    tmp_path: Path, name: str, text: str | None, told: tuple[str, str, str, str]
) -> None:
    if text is not None:
        write(tmp_path, name, text)
    error = fail(tmp_path / name)
    assert (parts(error), error.exit_code) == (told, 2)
    assert error.where.startswith(str(tmp_path / name))


def test_folder_in_place_of_the_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    assert parts(fail(tmp_path / "a.yaml")) == (
        "the configuration file cannot be read",
        "a readable UTF-8 text file",
        "Is a directory",
        "check that it is a file, its permissions and its encoding",
    )


def test_bad_yaml_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "seed: 1\ntraining: [1,\nmodel: }\n")
    assert fail(path).where == f"{path}:3"


def test_bad_toml_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", "seed = 1\nseed = = 2\n")
    assert fail(path).where == f"{path}:2"


def test_repeated_yaml_key_is_refused_at_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "seed: 1\nmodel:\n  source: a\n  source: b\n")
    error = fail(path)
    assert (error.where, error.got) == (f"{path}:4", 'found duplicate key "source"')


def test_unknown_key_names_the_nearest_and_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "seed: 1\ntraining:\n  learnin_rate: 1\n")
    error = fail(path)
    assert error.what == "unknown configuration key training.learnin_rate"
    assert (error.where, error.expected) == (f"{path}:3", "training.learning_rate")
    assert error.fix == "did you mean training.learning_rate?"


def test_unknown_rule_id_names_the_nearest() -> None:
    error = fail(None, "quality.rules.too_lng.limit=1")
    assert error.expected == "quality.rules.too_long"
    assert error.where == "--set quality.rules.too_lng.limit=1"


def test_unknown_key_without_a_like_lists_its_neighbours() -> None:
    error = fail(None, "data.source.columns.zzz=1")
    assert error.expected == (
        "one of messages, prompt, completion, tools, conversations, instruction, input, output, system"
    )


def test_negative_learning_rate_names_key_expectation_and_default(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "training:\n  learning_rate: -1\n")
    error = fail(path)
    assert error.what == "training.learning_rate has a value that is not allowed"
    assert (error.where, error.expected, error.got) == (f"{path}:2", "greater than 0", "-1")
    assert "default is 0.0005" in error.fix
    assert "pydantic" not in str(error)


@pytest.mark.parametrize("value", [".nan", ".inf", "abc", "[1]", "null"])
def test_learning_rate_that_is_no_number_is_refused(value: str) -> None:
    assert fail(None, f"training.learning_rate={value}").what.startswith("training.learning_rate")


def test_choice_lists_the_allowed_words() -> None:
    assert fail(None, "training.device=gpu").expected == "'auto', 'cuda', 'mps' or 'cpu'"


def test_plain_value_in_place_of_a_section_names_its_keys() -> None:
    assert fail(None, "training=3").expected.startswith("a section with keys such as method")


def test_section_in_place_of_a_plain_value_is_refused() -> None:
    error = fail(None, "seed.x=1")
    assert (error.where, error.expected) == ("--set seed.x=1", "a whole number")


def test_broken_combination_says_what_goes_together() -> None:
    assert parts(fail(None, "template.kind=file")) == (
        "template has a value that is not allowed",
        "template.path and template.kind=file require each other",
        "that combination",
        "correct template in the file or with --set template=...",
    )


def test_unknown_scheduler_lists_the_known_ones() -> None:
    assert "cosine" in fail(None, "training.lr_scheduler_type=foo").expected


def test_invalid_registered_name_is_refused_here() -> None:
    assert fail(None, "registry.name=a/b").what.startswith("registry.name")


def test_further_wrong_settings_are_named_too() -> None:
    error = fail(None, "training.device=gpu", "seed=-1", "zzz=1")
    for key in ("training.device", "seed", "zzz"):
        assert key in error.what


@pytest.mark.parametrize("override", ["seed", "=1", "a..b=1", ".seed=1"])
def test_malformed_override_is_refused(override: str) -> None:
    error = fail(None, override)
    assert error.where == f"--set {override}"
    assert parts(error) == (
        "an override is not of the form key=value",
        "a dotted key and a value, e.g. training.learning_rate=1e-4",
        override,
        "write it as one argument: --set key.sub=value",
    )


def test_override_with_a_bad_value_is_refused() -> None:
    error = fail(None, "seed=[1")
    assert error.where == "--set seed=[1"
    assert parts(error) == (
        "the value of seed cannot be read",
        "a number, a word, true, false, null, [a, b] or {a: b}",
        "'[1'",
        "quote the value for YAML, e.g. --set 'key=\"a: b\"'",
    )


def test_a_saved_configuration_reads_back(tmp_path: Path) -> None:
    config = load_config(None, ["data.rules.prompt_empty.severity=warn", "seed=9"])
    path = write(tmp_path, "a.yaml", config.model_dump_json(indent=1))
    assert load_config(path) == config


def test_key_that_was_replaced_names_what_replaces_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "evaluation:\n  max_new_tokens: 9\n  backend: vllm\n")
    error = fail(path)
    assert error.what == "configuration key evaluation.backend was replaced"
    assert error.where == f"{path}:3"
    assert "evaluation.server.command='vllm serve {model}" in error.fix
    assert fail(None, "evaluation.backend=auto").expected == error.expected


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 60 + "]" * 60,
        "a = " + "[" * 50_000,
        "a = " + "{a = " * 5000,
        ".".join(["a"] * 60) + " = 1",
        f"[template.kwargs.{'.'.join(['a'] * 5000)}]",
        "seed = " + "9" * 5000,
    ],
)
def test_toml_that_is_nested_too_deeply_or_too_large_is_a_clear_error(
    tmp_path: Path, text: str
) -> None:
    error = fail(write(tmp_path, "a.toml", text))
    assert error.where.startswith(str(tmp_path / "a.toml"))
    assert len(str(error)) < 2000


@pytest.mark.parametrize(
    "override",
    [
        ".".join(["a"] * 3000) + "=1",
        f"template.kwargs.{'.'.join(['a'] * 3000)}=1",
        f"template.kwargs.{'.'.join(['a'] * 40)}={'[' * 40 + ']' * 40}",
    ],
)
def test_override_that_is_nested_too_deeply_is_a_clear_error(override: str) -> None:
    assert "nested too deeply" in fail(None, override).what


@pytest.mark.parametrize("value", ["0x" + "f" * 20_000, str(2**32), "!!binary aGk="])
def test_seed_that_numpy_cannot_take_is_a_short_error(value: str) -> None:
    error = fail(None, f"seed={value}")
    assert error.what.startswith("seed has a value")
    assert len(error.got) < 400
