from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from schemas.errors import DataSourceError
from schemas.rule_ids import SetRule
from schemas.rules.profile import DataProfile, build_profile
from tasks.dataset.comparisons import SetColumns
from tasks.dataset.profile import (
    add_languages,
    make_profile,
    read_reference,
    sample_languages,
)
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import RowFeatures

ENGLISH = "The wall of the old house is two metres tall, and the roof was built by a mason from the north."
GERMAN = (
    "Die Mauer des alten Hauses ist zwei Meter hoch, und das Dach wurde von einem Maurer gebaut."
)
FRENCH = "Le mur de la vieille maison mesure deux mètres de haut, et le toit a été construit par un maçon."


def table_of(folder: Path, *answers: str) -> FeatureTable:
    """Make a table of rows with these answers; their hashes fall from row to row."""
    n_rows = len(answers)
    keys = [100 - number for number in range(n_rows)]
    columns = {
        "file": numpy.zeros(n_rows, dtype=numpy.uint32),
        "line": numpy.arange(1, n_rows + 1),
        "whole": numpy.array(keys, dtype=numpy.uint64),
        "prompt_characters": numpy.full(n_rows, 5),
        "answer_characters": numpy.array([len(answer) for answer in answers], dtype=numpy.int64),
        "n_messages": numpy.full(n_rows, 2),
    }
    sample = list(zip(keys, answers, strict=True))
    table = FeatureTable(folder)
    table.add(RowFeatures(columns, ["a.jsonl"], sample=sample))
    table.roles.update(user=n_rows, assistant=n_rows)
    return table


def test_languages_of_the_sample_are_told_and_unclear_ones_are_not(tmp_path: Path) -> None:
    table = table_of(tmp_path, ENGLISH, "42", GERMAN)
    # The sample is sorted by hash, and those fall from row to row.
    assert sample_languages(table) == ["de", None, "en"]


def test_rows_in_other_languages_are_marked_with_places(tmp_path: Path) -> None:
    found = SetColumns()
    add_languages(found, table_of(tmp_path, ENGLISH, GERMAN, "42", FRENCH), ("en",))
    # "42" is in no language that could be told, so it counts on neither side.
    assert sorted(found.columns["is_other_language"].tolist()) == [False, True, True]
    examples = found.examples[SetRule.LANGUAGE_FRACTION]
    assert [(example.line, example.detail) for example in examples] == [
        (2, "its answer seems to be in de"),
        (4, "its answer seems to be in fr"),
    ]


def test_wanted_languages_leave_no_example(tmp_path: Path) -> None:
    found = SetColumns()
    add_languages(found, table_of(tmp_path, ENGLISH, GERMAN), ("de", "en"))
    assert found.columns["is_other_language"].tolist() == [False, False]
    assert found.examples == {}


def test_languages_are_not_looked_at_unless_some_are_named(tmp_path: Path) -> None:
    found = SetColumns()
    add_languages(found, table_of(tmp_path / "a", GERMAN), ())
    add_languages(found, table_of(tmp_path / "b"), ("en",))
    assert (found.columns, found.examples) == ({}, {})


def test_profile_sums_the_set_up(tmp_path: Path) -> None:
    profile = make_profile(table_of(tmp_path, ENGLISH, GERMAN, "42"), {"messages": 3}, "abc")
    assert profile.n_rows == 3
    assert profile.prompt_characters == (0, 0, 0, 3)
    assert profile.n_messages == (0, 0, 3)
    assert sum(profile.answer_characters) == 3
    assert profile.roles == {"assistant": 3, "user": 3}
    assert profile.formats == {"messages": 3}
    assert profile.languages == {"de": 1, "en": 1}
    assert profile.kept_sha256 == "abc"


def test_profile_of_no_rows_is_empty(tmp_path: Path) -> None:
    assert make_profile(FeatureTable(tmp_path), {}) == DataProfile(n_rows=0)


@pytest.mark.parametrize("name", ["champion", "none"])
def test_names_without_a_file_have_no_profile(name: str) -> None:
    assert read_reference(name) is None


def test_profile_that_a_run_wrote_is_read(tmp_path: Path) -> None:
    profile = build_profile({"n_messages": numpy.array([2, 4])}, {"user": 3}, {"messages": 2}, {})
    path = tmp_path / "profile.json"
    path.write_text(profile.model_dump_json(), encoding="utf-8")
    assert read_reference(str(path)) == profile


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "\xff"])
def test_what_is_no_profile_is_an_input_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataSourceError) as caught:
        read_reference(str(path))
    assert caught.value.fix
    for other in (str(tmp_path), "/dev/zero"):
        with pytest.raises(DataSourceError):
            read_reference(other)
