"""Challengers of one champion are numbered from the tags of the versions in a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.records.decision import Challenge
from tasks.registry.challenges import challenge_tags, number_challenger
from tasks.registry.store import connect
from tasks.registry.tags import FINGERPRINT_TAG, MAX_TAG_CHARACTERS
from tests.support.toy import write_jsonl

pytestmark = pytest.mark.integration

CHAMPION = "c" * 64
NAME = "toy"


@pytest.fixture
def client(mlflow_home: Path) -> Any:
    client = connect()
    client.create_registered_model(NAME)
    return client


def write_prompts(folder: Path, rows: range) -> Path:
    path = folder / f"prompts{rows.start}-{rows.stop}.jsonl"
    write_jsonl(path, [{"row": row, "digest": f"{row * 2**40 + 7:016x}"} for row in rows])
    return path


def challenge(client: Any, fingerprint: str, prompts: Path, opponent: str = CHAMPION) -> Challenge:
    """Number a challenger and register it, as the flow does."""
    found = number_challenger(NAME, fingerprint, opponent, prompts)
    tags = {FINGERPRINT_TAG: fingerprint, **challenge_tags(found, prompts)}
    for earlier in client.search_model_versions(f"name = '{NAME}'"):
        if earlier.tags.get(FINGERPRINT_TAG) == fingerprint:
            for tag, text in tags.items():
                client.set_model_version_tag(NAME, earlier.version, tag, text)
            return found
    client.create_model_version(NAME, "s3://bucket/model", tags=tags)
    return found


def test_challengers_on_the_same_rows_are_counted(client: Any, tmp_path: Path) -> None:
    rows = write_prompts(tmp_path, range(200))
    numbers = [challenge(client, f"f{number}", rows) for number in range(4)]
    assert [(one.row_set, one.number) for one in numbers] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert {one.opponent for one in numbers} == {CHAMPION[:16]}


def test_a_challenger_asked_again_keeps_its_number(client: Any, tmp_path: Path) -> None:
    rows = write_prompts(tmp_path, range(200))
    first = [challenge(client, f"f{number}", rows) for number in range(3)]
    assert [challenge(client, f"f{number}", rows) for number in (1, 0, 2)] == [
        first[1], first[0], first[2],
    ]  # fmt: skip
    assert challenge(client, "f9", rows).number == 4


def test_rows_that_are_nearly_the_same_count_as_the_same(client: Any, tmp_path: Path) -> None:
    assert challenge(client, "f0", write_prompts(tmp_path, range(200))).number == 1
    grown = challenge(client, "f1", write_prompts(tmp_path, range(60, 260)))
    assert (grown.row_set, grown.number) == (1, 2)
    renewed = challenge(client, "f2", write_prompts(tmp_path, range(160, 360)))
    assert (renewed.row_set, renewed.number) == (2, 1)
    back = challenge(client, "f3", write_prompts(tmp_path, range(10, 190)))
    assert (back.row_set, back.number) == (1, 3)
    third = challenge(client, "f4", write_prompts(tmp_path, range(1000, 1200)))
    assert (third.row_set, third.number) == (3, 1)


def test_each_opponent_has_a_count_of_its_own(client: Any, tmp_path: Path) -> None:
    rows = write_prompts(tmp_path, range(50))
    challenge(client, "f0", rows)
    challenge(client, "f1", rows)
    assert challenge(client, "f2", rows, "d" * 64).number == 1
    # Decided again against another champion, a version has a number for each.
    assert challenge(client, "f0", rows, "d" * 64).number == 2
    assert challenge(client, "f0", rows).number == 1
    assert challenge(client, "f3", rows).number == 3


def test_tags_written_by_hand_do_not_count(client: Any, tmp_path: Path) -> None:
    rows = write_prompts(tmp_path, range(50))
    tag = f"sft.challenge.{CHAMPION[:16]}"
    for text in ("", "one", "1", "1.x", "-1.4"):
        client.create_model_version(NAME, "s3://bucket/model", tags={tag: text} if text else {})
    broken = {tag: "1.6", "sft.eval_rows_sketch": "not base64!"}
    client.create_model_version(NAME, "s3://bucket/model", tags=broken)
    found = number_challenger(NAME, "f0", CHAMPION, rows)
    assert (found.row_set, found.number) == (2, 1)


def test_all_versions_are_read_and_tags_fit_the_store(client: Any, tmp_path: Path) -> None:
    rows = write_prompts(tmp_path, range(1000))
    tags = challenge_tags(Challenge(opponent=CHAMPION[:16], number=1), rows)
    assert max(len(text) for text in tags.values()) < MAX_TAG_CHARACTERS
    for number in range(1, 131):  # more than a page
        numbered = tags | {f"sft.challenge.{CHAMPION[:16]}": f"1.{number}"}
        client.create_model_version(NAME, "s3://bucket/model", tags=numbered)
    assert number_challenger(NAME, "new", CHAMPION, rows).number == 131


def test_without_a_store_the_challenger_is_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = number_challenger(NAME, "f0", CHAMPION, write_prompts(tmp_path, range(9)))
    assert found == Challenge(opponent=CHAMPION[:16], row_set=1, number=1)
    assert not (tmp_path / "home").exists()
