from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.stages import Stage
from tasks import _code
from tasks._code import CONTRACT_MODULES, code_sha256, read_code

STAGE = "from tasks.toy_helper import double\n\n\ndef run(x):\n    return double(x)\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stage `tasks.toy_stage` that imports `tasks.toy_helper`, beside the real ones."""
    import tasks

    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    (tmp_path / "toy_stage.py").write_text(STAGE, encoding="utf-8")
    (tmp_path / "toy_helper.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    yield tmp_path
    forget()


def forget() -> None:
    """Read files anew, as the next process would."""
    importlib.invalidate_caches()
    _code._parse.cache_clear()
    _code._path.cache_clear()
    for name in ("tasks.toy_stage", "tasks.toy_helper"):
        sys.modules.pop(name, None)


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    changed = '"""What it does."""\n# why\n' + STAGE.replace("(x):\n", '(x):\n    """Do."""\n\n')
    (package / "toy_stage.py").write_text(changed, encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") == before


def test_a_change_of_behaviour_counts(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    (package / "toy_stage.py").write_text(STAGE.replace("(x)\n", "(x + 1)\n"), encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_change_in_a_helper_counts(package: Path) -> None:
    before = code_sha256("tasks.toy_stage")
    (package / "toy_helper.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_helper_imported_inside_a_function_counts(package: Path) -> None:
    inside = "def run(x):\n    from tasks import toy_helper\n    return toy_helper.double(x)\n"
    (package / "toy_stage.py").write_text(inside, encoding="utf-8")
    forget()
    before = code_sha256("tasks.toy_stage")
    (package / "toy_helper.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    forget()
    assert code_sha256("tasks.toy_stage") != before


def test_a_module_that_became_only_a_docstring_can_be_read(package: Path) -> None:
    (package / "toy_helper.py").write_text('"""Nothing left."""\n', encoding="utf-8")
    forget()
    assert read_code("tasks.toy_helper") == "Module(body=[Pass()], type_ignores=[])"


def test_contract_modules_exist() -> None:
    for name in CONTRACT_MODULES:
        assert importlib.util.find_spec(name), name


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_code_to_hash(stage: Stage) -> None:
    assert len(read_code(f"tasks.{stage}")) > 100
