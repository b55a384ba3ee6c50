"""The tests mirror the product, and help each other from tests/support only."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
ROOMS = ("flows", "schemas", "tasks")
COVERED_BY = {
    "flows/_forecast.py": "integration/test_repeated_challengers.py",
    "flows/_one_at_a_time.py": "integration/test_scheduled_retrains.py",
    "flows/_private_parameters.py": "integration/test_secrets.py",
    "flows/_rejections.py": "unit/flows/test_retrain_model.py",
    "flows/cli/doctor.py": "integration/test_local_services.py",
    "flows/cli/notify.py": "integration/test_notifications.py",
    "flows/cli/promote.py": "integration/test_by_hand.py",
    "flows/cli/registry_status.py": "unit/flows/cli/test_main.py",
    "flows/cli/services.py": "integration/test_local_services.py",
    "flows/cli/status.py": "unit/flows/cli/test_main.py",
    "flows/doctor/finding.py": "unit/flows/doctor/test_examine.py",
    "flows/promote_version.py": "integration/test_by_hand.py",
    "flows/services/signals.py": "unit/flows/cli/test_main.py",
    "flows/services/stuck_runs.py": "integration/test_notifications.py",
    "flows/services/temporary_server.py": "integration/test_server.py",
    "flows/sweep_training.py": "integration/test_sweep.py",
    "schemas/config/_gate_metrics.py": "unit/schemas/config/test_gates.py",
    "schemas/records/decision.py": "unit/tasks/test_decide.py",
    "schemas/records/events.py": "unit/tasks/report/test_announcements.py",
    "schemas/rows/row.py": "unit/schemas/rows/test_recognition.py",
    "schemas/rule_ids.py": "unit/schemas/rules/test_check_rows.py",
    "schemas/rules/_layout.py": "unit/schemas/rules/test_check_rows.py",
    "schemas/rules/_message_frame.py": "unit/schemas/rules/test_check_rows.py",
    "schemas/texts/_personal_numbers.py": "unit/schemas/texts/test_secrets.py",
    "schemas/texts/_secret_tokens.py": "unit/schemas/texts/test_secrets.py",
    "tasks/chat_template/sources.py": "unit/tasks/chat_template/test_setup.py",
    "tasks/dataset/_check_tokens.py": "unit/tasks/dataset/test_check_file.py",
    "tasks/dataset/_column_names.py": "unit/tasks/dataset/test_column_mapping.py",
    "tasks/dataset/split_columns.py": "unit/tasks/test_check_quality.py",
    "tasks/engine/arrays.py": "unit/tasks/rows/test_features.py",
    "tasks/engine/stage.py": "integration/test_stages.py",
    "tasks/evaluate_champion.py": "integration/test_champion.py",
    "tasks/evaluate_model.py": "unit/tasks/evaluation/test_evaluate.py",
    "tasks/generate_baseline.py": "integration/test_train_sft.py",
    "tasks/promote_model.py": "integration/test_promotion.py",
    "tasks/publish_report.py": "integration/test_train_sft.py",
    "tasks/register_model.py": "integration/test_registering.py",
    "tasks/registry/_faults.py": "integration/test_secrets.py",
    "tasks/registry/approvals.py": "integration/test_approval.py",
    "tasks/registry/rejections.py": "integration/test_history.py",
    "tasks/registry/store.py": "integration/test_registry.py",
    "tasks/registry/tags.py": "integration/test_retention.py",
    "tasks/registry/versions.py": "integration/test_registered_models.py",
    "tasks/release/closing.py": "integration/test_identity.py",
    "tasks/release/chat_model.py": "integration/test_registered_models.py",
    "tasks/release/registration.py": "integration/test_registering.py",
    "tasks/release/run_files.py": "integration/test_registry.py",
    "tasks/search_settings.py": "integration/test_sweep.py",
    "tasks/sources/_compression.py": "unit/tasks/rows/test_check.py",
    "tasks/sources/_json_values.py": "unit/tasks/sources/test_readers.py",
    "tasks/sources/_line_blocks.py": "unit/tasks/sources/test_readers.py",
    "tasks/sweep/_trial.py": "unit/tasks/sweep/test_study.py",
    "tasks/sources/hub.py": "unit/tasks/models/test_hub.py",
    "tasks/sweep/results.py": "unit/tasks/sweep/test_study.py",
    "tasks/tokens/split_tokens.py": "unit/tasks/test_check_quality.py",
    "tasks/training/_failures.py": "unit/tasks/training/test_launch.py",
    "tasks/training/process/_callbacks.py": "integration/test_training.py",
    "tasks/training/process/events.py": "unit/tasks/training/process/test_trainer.py",
    "tasks/training/process/run.py": "integration/test_training.py",
    "tasks/training/process/spec.py": "unit/tasks/training/process/test_trainer.py",
}
"""Modules without a test of their name, and the file under tests/ that tests what they do."""
PROJECT_TESTS = {
    "test_layout.py",
    "test_mirror.py",
    "test_docs.py",
    "test_deploy.py",
    "test_deploy_logins.py",
    "test_licences.py",
    "test_packaging.py",
    "test_prose.py",
    "test_prefect_yaml.py",
}
"""Of no single module; `benchmarks` and `support` have folders of their own."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


PRODUCT = {
    module_name(path): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.name != "__init__.py"
}
TEST_FILES = sorted(TESTS.rglob("test_*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """List the modules that a file imports, whichever way it writes it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found)


def reaches(test: Path, module: str) -> bool:
    """Return whether a test names a module, or imports one that imports it."""
    if module in imports(test) or module in test.read_text(encoding="utf-8"):
        return True
    return any(module in imports(PRODUCT[name]) for name in imports(test) & set(PRODUCT))


def namesakes(path: Path) -> tuple[Path, Path]:
    """Return where a module's own test may be; the underscore of a private module is left out."""
    name = f"test_{path.stem.lstrip('_')}.py"
    return TESTS / "unit" / path.relative_to(ROOT).parent / name, TESTS / "integration" / name


@pytest.mark.parametrize("path", PRODUCT.values(), ids=module_name)
def test_every_module_has_its_test(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    unit, integration = namesakes(path)
    if unit.is_file() or (integration.is_file() and reaches(integration, module_name(path))):
        assert name not in COVERED_BY, "it has a test of its name"
        return
    assert name in COVERED_BY, f"no {unit.relative_to(ROOT)}, and COVERED_BY lacks it"
    assert reaches(TESTS / COVERED_BY[name], module_name(path)), COVERED_BY[name]


def test_covered_modules_exist() -> None:
    assert [name for name in COVERED_BY if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", TEST_FILES, ids=module_name)
def test_no_test_imports_from_another_test(path: Path) -> None:
    names = {module_name(test) for test in TEST_FILES}
    assert imports(path) & names == set()


def test_unit_tests_are_where_their_module_is() -> None:
    """A folder of tests/unit is a folder of the product."""
    for path in sorted((TESTS / "unit").rglob("test_*.py")):
        folder = path.relative_to(TESTS / "unit").parent
        if folder.parts[:1] in (("benchmarks",), ("support",)):
            continue
        is_known = folder.parts or path.name in PROJECT_TESTS
        assert is_known, path
        assert (ROOT / folder).is_dir(), path
