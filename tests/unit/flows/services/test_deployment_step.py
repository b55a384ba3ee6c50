from __future__ import annotations

from pathlib import Path

import pytest

from flows.services.deployment_step import read_configuration
from schemas.config.file import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError


def test_step_returns_the_written_settings_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = "data: {source: {source: a.csv, columns: {prompt: q, completion: a}}}\nseed: 7\n"
    (tmp_path / "own.yaml").write_text(written)
    found = read_configuration("own.yaml")
    assert found["folder"] == str(tmp_path)
    assert found["config"] == {
        "data": {"source": {"source": "a.csv", "columns": {"prompt": "q", "completion": "a"}}},
        "seed": 7,
    }
    assert RunConfig.model_validate(found["config"]) == load_config(tmp_path / "own.yaml")


def test_wrong_configuration_is_not_deployed(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("learning_rate: 1\n")
    with pytest.raises(ConfigError, match="learning_rate"):
        read_configuration(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize("address", ["https://ada:pw@host/a.csv", "https://host/a.csv?sig=abc"])
def test_configuration_with_a_secret_is_not_deployed(tmp_path: Path, address: str) -> None:
    (tmp_path / "own.yaml").write_text(f"data: {{source: {{source: '{address}'}}}}\n")
    with pytest.raises(ConfigError, match="Prefect would store") as caught:
        read_configuration(str(tmp_path / "own.yaml"))
    assert address not in str(caught.value)
