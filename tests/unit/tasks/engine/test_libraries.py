from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from schemas.records.stages import Stage
from tasks.engine import _libraries
from tasks.engine._code_hash import CONTRACT_MODULES, imported_libraries
from tasks.engine._libraries import COMPANIONS, SHAPELESS, library_versions, shaping_libraries
from tasks.engine.extras import FOR_DEVELOPERS, PACKAGES, requirements
from tasks.engine.keys import StageDefinition, stage_key
from tasks.evaluation.evaluate import HELD_OUT, LM_EVAL

NOT_OF_STAGES = {
    "boto3": "for `mlflow server` and s3 addresses",
    "click": "the command line",
    "optuna": "draws the settings of a sweep, which are then settings",
    "psycopg2-binary": "for `mlflow server`",
    "rich": "the command line",
    "ruamel-yaml": "the command line: writes sft.yaml",
    "s3fs": "moves bytes, whose content the key contains",
    "zaragoza-construction-faq": "the demo's rows, whose content the key contains",
}
"""Required by the package, but of no stage: why."""


@pytest.fixture(autouse=True)
def _look_up_again() -> Iterator[None]:
    """Look versions up as a new process would."""
    _libraries._version.cache_clear()
    yield
    _libraries._version.cache_clear()


def definitions() -> list[StageDefinition]:
    """Of all stages, and of the scores that stages store."""
    stages = [
        getattr(importlib.import_module(f"tasks.{stage}"), stage).definition for stage in Stage
    ]
    return [*stages, HELD_OUT, LM_EVAL]


@pytest.fixture(scope="module")
def import_graph() -> Any:
    """Who imports whom, other libraries included, as import-linter's own library reads it."""
    import grimp

    return grimp.build_graph(
        "tasks",
        "schemas",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


@pytest.mark.parametrize("definition", definitions(), ids=lambda one: one.name)
def test_every_library_a_stage_reaches_is_in_its_key_or_argued(
    definition: StageDefinition, import_graph: Any
) -> None:
    reached: set[str] = set()
    waiting = [definition.module]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in CONTRACT_MODULES:
            reached.add(name)
            if name.partition(".")[0] in ("tasks", "schemas"):
                waiting.extend(import_graph.find_modules_directly_imported_by(name))
    tops = {name.partition(".")[0] for name in reached}
    libraries = tops - set(sys.stdlib_module_names) - {"tasks", "schemas"}
    assert len(libraries) > 3 or definition is LM_EVAL
    assert libraries <= imported_libraries(definition.module)
    wanted = {PACKAGES.get(one, one) for one in libraries - SHAPELESS.keys()}
    parts = library_versions(definition.module, definition.libraries)
    known = {PACKAGES.get(one, one) for one in parts}
    for package in wanted:
        if installed(package):
            assert package in known


@pytest.mark.parametrize("definition", definitions(), ids=lambda one: one.name)
def test_every_import_that_works_has_a_version(definition: StageDefinition) -> None:
    """A package of another name than its module would be left out without a word."""
    for library in shaping_libraries(definition.module):
        if library.isidentifier() and importlib.util.find_spec(library):
            assert installed(PACKAGES.get(library, library)), library


def installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_every_requirement_is_of_a_stage_or_argued() -> None:
    """What is loaded by its name alone, such as by a setting, is in no import graph."""
    counted = {
        canonicalize_name(PACKAGES.get(one, one))
        for definition in definitions()
        for one in shaping_libraries(definition.module, definition.libraries)
    }
    argued = {canonicalize_name(PACKAGES.get(one, one)) for one in (*SHAPELESS, *NOT_OF_STAGES)}
    required = {
        canonicalize_name(requirement.name)
        for extra, requirement in requirements()
        if extra not in FOR_DEVELOPERS
    }
    assert required - counted - argued == set()
    assert not counted & {canonicalize_name(one) for one in NOT_OF_STAGES}


def test_companions_are_of_libraries_that_stages_import() -> None:
    imported = {
        one for definition in definitions() for one in imported_libraries(definition.module)
    }
    assert COMPANIONS.keys() | SHAPELESS.keys() <= imported


@pytest.mark.parametrize(
    ("library", "stages"),
    [
        ("sacrebleu", {"generate_baseline", "evaluate_model", "evaluate_champion", "decide"}),
        (
            "py3langid",
            {"check_quality", "generate_baseline", "evaluate_model", "evaluate_champion"},
        ),
        ("jsonschema", {"check_schema", "evaluate_model"}),
        ("orjson", {"check_schema", "check_quality"}),
        ("numpy", {"check_quality", "train_model", "decide"}),
        ("tokenizers", {"check_quality", "train_model"}),
        ("vllm", {"held_out_scores", "generate_baseline", "evaluate_model", "evaluate_champion"}),
        ("lm-eval", {"lm_eval_scores", "evaluate_model"}),
        ("bitsandbytes", {"train_model"}),
        ("great-expectations", {"check_quality"}),
    ],
)
def test_another_version_of_a_library_changes_the_keys(
    library: str, stages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(definition: StageDefinition) -> str:
        bare = StageDefinition(
            definition.name, definition.module, definition.result_type, definition.libraries
        )
        return stage_key(bare, {}).digest

    found = {one.name: one for one in definitions() if one.name in stages}
    assert found.keys() == stages
    before = {name: key(one) for name, one in found.items()}
    version = importlib.metadata.version

    def faked(package: str) -> str:
        return "99.0" if canonicalize_name(package) == library else version(package)

    monkeypatch.setattr(importlib.metadata, "version", faked)
    _libraries._version.cache_clear()
    assert not {name for name, one in found.items() if key(one) == before[name]}


def test_a_library_that_is_not_installed_is_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = library_versions("tasks.train_model", ("no-such-package",))
    assert "no-such-package" not in parts
    assert parts["torch"] == importlib.metadata.version("torch")
    assert "prefect" not in parts
