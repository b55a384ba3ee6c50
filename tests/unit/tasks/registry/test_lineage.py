from __future__ import annotations

import hashlib
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config.run import RunConfig
from schemas.records.decision import Decision
from schemas.records.references import Evidence, Role
from tasks.registry.lineage import (
    code_tags,
    config_text,
    flow_run_tags,
    lineage_tags,
    metrics_by_role,
    settings_sha256,
    shorten,
    version_fingerprint,
)
from tasks.registry.tags import MAX_TAG_CHARACTERS
from tests.support.evidence import CONFIG, decide_again, make_records

SIGNED = "https://host.example/eval.jsonl?X-Amz-Signature="


@pytest.fixture
def evidence() -> Evidence:
    return make_records()


def test_fingerprint_does_not_depend_on_the_decision(evidence: Evidence, tmp_path: Path) -> None:
    refused = decide_again(evidence, tmp_path, Decision.REFUSE, 7)
    assert version_fingerprint("toy", refused) == version_fingerprint("toy", evidence)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("trained", "sha256"),
        ("checked", "kept_sha256"),
        ("quality", "eval_sha256"),
        ("template", "template_sha256"),
        ("template", "model_fingerprint"),
    ],
)
def test_fingerprint_depends_on_each_part(evidence: Evidence, part: str, field: str) -> None:
    record = getattr(evidence, part).model_copy(update={field: "other"})
    other = evidence.model_copy(update={part: record})
    assert version_fingerprint("toy", other) != version_fingerprint("toy", evidence)
    assert version_fingerprint("other", evidence) != version_fingerprint("toy", evidence)


def test_sides_have_a_champion_only_where_there_is_one(evidence: Evidence, tmp_path: Path) -> None:
    assert list(metrics_by_role(evidence)) == [Role.BASE, Role.CHALLENGER]
    compared = decide_again(evidence, tmp_path, Decision.REFUSE, 7)
    assert metrics_by_role(compared) == {
        Role.BASE: {"loss": 3.0, "chrf": 0.25},
        Role.CHAMPION: {"loss": 2.5, "chrf": 0.375},
        Role.CHALLENGER: {"loss": 2.0, "chrf": 0.5},
    }


def test_tags_fit_the_store_and_leave_out_what_is_not_known(evidence: Evidence) -> None:
    template = evidence.template.model_copy(update={"model_name": "m" * 6000})
    tags = lineage_tags(CONFIG, evidence.model_copy(update={"template": template}), "r1")
    assert tags["sft.base_model"] == "m" * (MAX_TAG_CHARACTERS - 1) + "…"
    assert tags["sft.gates"] == "runs:/r1/gates.json"
    assert "sft.base_revision" not in tags
    assert "sft.flow_run_id" not in tags
    assert all(tags.values())


def test_config_sha256_is_that_of_the_stored_file(evidence: Evidence) -> None:
    tags = lineage_tags(CONFIG, evidence, "r1")
    text = config_text(CONFIG)
    assert tags["sft.config_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert "name: toy" in text


def test_config_text_keeps_a_pattern_whole() -> None:
    pattern = r"https?://docs\.x/\w+\?q=(a|b)"
    config = RunConfig.model_validate({"evaluation": {"pattern": pattern}})
    assert yaml.safe_load(config_text(config))["evaluation"]["pattern"] == pattern


@pytest.mark.parametrize(
    ("settings", "changed", "is_equal"),
    [
        ({"split": {"pinned": {"source": f"{SIGNED}a"}}}, f"{SIGNED}b", True),
        ({"split": {"pinned": {"source": "https://x/eval.jsonl"}}}, "https://x/new.jsonl", False),
        ({"evaluation": {"retention": {"general": f"{SIGNED}a"}}}, f"{SIGNED}b", True),
        ({"evaluation": {"retention": {"general": "a.jsonl"}}}, "b.jsonl", False),
        ({"quality": {"benchmarks": [f"{SIGNED}a"]}}, [f"{SIGNED}b"], True),
        ({"quality": {"benchmarks": ["a.jsonl"]}}, ["b.jsonl"], False),
        ({"data": {"source": {"source": "a.jsonl"}}}, "b.jsonl", True),
        ({"data": {"sources": {"faq": {"source": "a.jsonl"}}}}, "b.jsonl", True),
        ({"data": {"source": {"columns": {"prompt": "a"}}}}, "b", False),
        ({"data": {"sources": {"faq": {"source": "a.jsonl", "weight": 1}}}}, 2, False),
        ({"evaluation": {"pattern": r"https?://a/\w"}}, r"https?://b/\w", False),
        ({"evaluation": {"judge": {"model": "m", "url": "http://j/?v=1"}}}, "http://j/?v=2", False),
        ({"registry": {"name": "a"}}, "b", True),
        ({"retrain": {"min_new_rows": 1}}, 2, True),
    ],
)
def test_settings_count_as_in_keys(
    settings: dict[str, Any], changed: object, is_equal: bool
) -> None:
    """`changed` is another value of the last key of `settings`."""
    other = deepcopy(settings)
    inner = other
    while isinstance(inner[list(inner)[-1]], dict):
        inner = inner[list(inner)[-1]]
    inner[list(inner)[-1]] = changed
    one, two = (settings_sha256(RunConfig.model_validate(it)) for it in (settings, other))
    assert (one == two) is is_equal


def test_config_text_holds_no_password() -> None:
    source = {"source": "s3://user:secret@bucket/rows.jsonl"}
    config = RunConfig.model_validate({"data": {"source": source}})
    assert "secret" not in config_text(config)


def test_code_tags_name_commit_and_changes(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert set(code_tags(tmp_path)) == {"sft.code_version"}
    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    assert code_tags(tmp_path)["sft.code_commit"] == commit
    (tmp_path / "other.txt").write_text("not under version control")
    assert code_tags(tmp_path)["sft.code_commit"] == commit
    (tmp_path / "code.py").write_text("2")
    assert code_tags(tmp_path)["sft.code_commit"] == f"{commit}-dirty"


def test_code_tags_do_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    assert "sft.code_commit" not in code_tags(tmp_path)  # not a repository at all
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "sft.code_commit" not in code_tags(tmp_path)


def test_flow_run_tags_name_run_and_page(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_UI_URL, temporary_settings

    assert flow_run_tags() == {}
    run_id = "0c9a9a5e-0d5f-4c4e-9c39-1d6a3b5f2a11"
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run_id)
    with temporary_settings({PREFECT_UI_URL: "http://127.0.0.1:4200"}):
        assert flow_run_tags() == {
            "sft.flow_run_id": run_id,
            "sft.flow_run_url": f"http://127.0.0.1:4200/runs/flow-run/{run_id}",
        }


def test_shorten_leaves_short_texts_alone() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"
