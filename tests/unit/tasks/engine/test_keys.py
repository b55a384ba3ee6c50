"""What a key is made of; that outputs are found by it is tested in test_cache.py."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from schemas.base import Section
from schemas.config import gates
from schemas.config.evaluation import EvaluationConfig, JudgeConfig
from schemas.config.gates import Against, GateConfig, GateDefinition
from schemas.config.run import DataSource, QualityConfig, RunConfig, SplitConfig
from schemas.records.references import DecisionReference, StageReference
from schemas.records.stages import Stage
from tasks.dataset import retention_rows
from tasks.dataset.pinned_rows import PinnedRules
from tasks.dataset.retention_rows import RetentionRequest
from tasks.decide import decide
from tasks.engine import _code_hash
from tasks.engine._code_hash import CONTRACT_MODULES, code_sha256
from tasks.engine.cache import OutputFolder
from tasks.engine.keys import (
    StageDefinition,
    StageKey,
    explain_absence,
    settings_parts,
    slug,
    stage_key,
)
from tasks.promote_model import promote_model
from tests.support.evidence import make_records

OLD = r"https?://docs\.old\.example/\w+"
NEW = r"https?://docs\.new\.example/\w+"
SIGNED = "https://host.example/rows.jsonl?X-Amz-Signature="
DEFINITION = StageDefinition("split_dataset", "schemas.records.stages", StageReference)


def key_of(**arguments: object) -> StageKey:
    return stage_key(DEFINITION, arguments)


def test_digest_is_that_of_the_parts_in_any_order() -> None:
    one, other = StageKey("a", {"x": "1", "y": "ä"}), StageKey("a", {"y": "ä", "x": "1"})
    expected = sha256(rb'{"x": "1", "y": "\u00e4"}').hexdigest()[:24]
    assert one.digest == other.digest == expected
    assert one.folder == f"stages/a/{expected}"


def test_a_part_with_a_secret_shows_the_rest_and_a_digest_of_all() -> None:
    judge = JudgeConfig(url="https://ada:hunter2@judge.example/v1", model="m")
    digest = sha256(json.dumps(judge.url).encode()).hexdigest()
    parts = settings_parts("judge", judge)
    assert parts["config judge.url"] == f'"https://judge.example/v1" of sha256 {digest}'
    assert parts["config judge.model"] == '"m"'


def test_dictionaries_are_parts_by_key_and_other_values_one_part() -> None:
    parts = settings_parts("a", {"b": {"c": [2, 1]}, "d": {}, "e": None})
    assert parts == {"config a.b.c": "[2, 1]", "config a.d": "{}", "config a.e": "null"}


def test_a_derived_set_counts_without_an_order() -> None:
    parts = settings_parts("evaluation", EvaluationConfig())
    names = json.dumps(sorted(EvaluationConfig().metric_names))
    assert parts["derived evaluation.metric_names"] == sha256(names.encode()).hexdigest()


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("a" * 64, "b" * 64, "aaaaaaaa → bbbbbbbb"),
        ("a" * 63, "g" * 64, f"{'a' * 63} → {'g' * 64}"),
    ],
)
def test_digests_alone_are_cut_in_the_reason(before: str, after: str, shown: str) -> None:
    OutputFolder(StageKey("a", {"one": before, "same": "x"})).commit(StageReference)
    assert explain_absence(StageKey("a", {"one": after, "same": "x"})) == f"changed: one {shown}"


def test_what_is_derived_is_told_where_nothing_else_changed() -> None:
    OutputFolder(StageKey("a", {"derived x": "1"})).commit(StageReference)
    assert explain_absence(StageKey("a", {"derived x": "2"})) == "changed: derived x 1 → 2"
    assert explain_absence(StageKey("a", {"derived x": "1"})) == "its output was deleted"


@pytest.mark.parametrize(
    ("name", "plain"), [("faq-1", "faq-1"), ("FAQ  1!", "faq-1-"), ("_é_", "-")]
)
def test_slug_tells_apart_names_that_look_alike(name: str, plain: str) -> None:
    digits = sha256(name.encode()).hexdigest()[:6] if plain != name else ""
    assert slug(name) == plain + digits


def test_a_pattern_counts_in_full_and_is_shown_in_full() -> None:
    old, new = (
        key_of(evaluation=EvaluationConfig(metrics=("regex_match",), pattern=text))
        for text in (OLD, NEW)
    )
    assert old.digest != new.digest
    assert old.parts["config evaluation.pattern"] == json.dumps(OLD)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("see https://docs.example/a?b or be strict", "see https://docs.example/a?b or be kind"),
        ("see https://docs.example/a?key=strict", "see https://docs.example/a?key=kind"),
        ("https://docs.example/?q=a", "https://docs.example/?q=b"),
        ("https://a@docs.example/", "https://b@docs.example/"),
    ],
)
def test_texts_that_differ_give_other_keys_whatever_is_shown(first: str, second: str) -> None:
    one, other = (
        key_of(judge=JudgeConfig(url="http://judge", model="m", instructions=text))
        for text in (first, second)
    )
    assert one.digest != other.digest


def test_a_password_is_neither_shown_nor_digested_alone() -> None:
    judge = JudgeConfig(url="https://ada:hunter2@judge.example/v1?api_key=s3cr3t", model="m")
    text = str(key_of(judge=judge).parts)
    assert "https://judge.example/v1" in text
    for secret in ("hunter2", "s3cr3t", "ada"):
        assert secret not in text
        assert sha256(secret.encode()).hexdigest() not in text


def test_the_signature_of_an_address_with_rows_does_not_count() -> None:
    """The rows are hashed where they are read, so that a new signature changes nothing."""
    once, again = (
        key_of(origin=DataSource(source=SIGNED + text), split=SplitConfig(pinned=pinned))
        for text, pinned in (
            ("a", DataSource(source=SIGNED + "1")),
            ("b", DataSource(source=SIGNED + "2")),
        )
    )
    assert once == again
    assert once.parts["config origin.source"] == '"https://host.example/rows.jsonl"'
    moved = key_of(origin=DataSource(source="https://host.example/other.jsonl"))
    assert moved.digest != key_of(origin=DataSource(source=SIGNED)).digest


@pytest.mark.parametrize(
    "made",
    [
        lambda address: EvaluationConfig(retention={"general": address}),
        lambda address: QualityConfig(benchmarks=(address,)),
    ],
)
def test_the_signature_of_other_rows_does_not_count(made: Callable[[str], Section]) -> None:
    once, again, moved = (
        key_of(part=made(address)) for address in (SIGNED + "a", SIGNED + "b", "https://x/y.jsonl")
    )
    assert once == again
    assert "https://host.example/rows.jsonl" in str(once.parts)
    assert moved != once


def test_the_signature_of_retention_rows_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_rows, "source_fingerprint", lambda _: "content")
    once, again = (
        key_of(retention=RetentionRequest(sources={"general": address}, pinned=PinnedRules()))
        for address in (SIGNED + "a", SIGNED + "b")
    )
    shown = once.parts["config retention.sources.general"]
    assert shown == '"https://host.example/rows.jsonl"'
    assert once == again


def test_other_default_gates_change_the_key_of_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key(decide.definition, {"gates": GateConfig()})
    added = GateDefinition("more_right_answers", "exact_match", Against.BASE)
    monkeypatch.setattr(gates, "DEFAULT_GATES", (*gates.DEFAULT_GATES, added))
    after = stage_key(decide.definition, {"gates": GateConfig()})
    changed = {name for name in after.parts if after.parts[name] != before.parts[name]}
    assert changed == {"derived gates.definitions"}


def test_another_definition_of_a_promotion_changes_the_key_of_promote_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decision = make_records().decision
    before = stage_key(promote_model.definition, {"decision": decision})
    monkeypatch.setattr(DecisionReference, "is_promotion", property(lambda _: False))
    after = stage_key(promote_model.definition, {"decision": decision})
    assert before.digest != after.digest


def test_what_follows_from_a_setting_is_not_told_twice() -> None:
    known = key_of(gates=GateConfig())
    OutputFolder(known).commit(StageReference)
    stricter = GateConfig.model_validate({"checks": {"loss_below_base": {"limit": 0.5}}})
    reason = explain_absence(key_of(gates=stricter))
    assert "config gates.checks.loss_below_base.limit (none) → 0.5" in reason
    assert "derived" not in reason


def value_contracts() -> list[str]:
    return sorted(name for name in CONTRACT_MODULES if name.startswith("schemas."))


@pytest.mark.parametrize("module", value_contracts())
def test_contracts_have_no_behaviour_that_a_key_leaves_out(module: str) -> None:
    """Methods of contracts shape no output, unless as properties, which a key contains as values."""
    if module == "schemas.errors":
        return  # an error leaves no output
    for node in ast.walk(_code_hash._read_tree(module)):
        if not isinstance(node, ast.ClassDef):
            continue
        for member in node.body:
            if isinstance(member, ast.FunctionDef):
                marks = {ast.unparse(mark).partition("(")[0] for mark in member.decorator_list}
                is_known = marks & {"property", "field_validator", "model_validator"}
                assert is_known or member.name == "_require_rows", f"{node.name}.{member.name}"


def test_properties_of_sections_and_records_are_values_of_the_key() -> None:
    parts = key_of(config=RunConfig(), **dict(make_records())).parts
    assert {name for name in parts if name.startswith("derived ")} >= {
        "derived config.start",
        "derived config.data.origin",
        "derived config.data.weights",
        "derived config.evaluation.metric_names",
        "derived config.gates.definitions",
        "derived config.training.has_adapter",
        "derived decision.is_promotion",
        "derived quality.n_epoch_rows",
    }


@pytest.mark.parametrize("constant", ["JUDGE_METRIC", "RETENTION_GATES", "LOSS_MARGIN"])
def test_a_constant_of_a_contract_counts_where_it_is_imported(
    constant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = [f"tasks.{stage}" for stage in Stage]
    before = {module: code_sha256(module) for module in modules}
    known = _code_hash._definitions
    definitions = known("schemas.config.gates")
    changed = {**definitions, constant: replace(definitions[constant], text="changed")}
    monkeypatch.setattr(
        _code_hash,
        "_definitions",
        lambda module: changed if module == "schemas.config.gates" else known(module),
    )
    differing = {module for module in modules if code_sha256(module) != before[module]}
    assert "tasks.decide" in differing
    assert "tasks.train_model" not in differing
