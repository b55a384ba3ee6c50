from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.config.run import ModelConfig
from tasks.release.licence import find_licence


def folder(tmp_path: Path, config: dict[str, str], card: str | None = None) -> ModelConfig:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    return ModelConfig(source=str(tmp_path))


def test_licence_stands_in_the_model_card(tmp_path: Path) -> None:
    card = "---\nlicense: mit\n---\n# Model\n"
    assert find_licence(folder(tmp_path, {"license": "other"}, card)) == "mit"


def test_licence_stands_in_the_configuration(tmp_path: Path) -> None:
    assert find_licence(folder(tmp_path, {"license": "apache-2.0"}, "# no front matter\n")) == (
        "apache-2.0"
    )


@pytest.mark.parametrize("card", [None, "---\nlicense: [a, b]\n---\n", "---\n: broken: [\n---\n"])
def test_licence_is_not_invented(tmp_path: Path, card: str | None) -> None:
    assert find_licence(folder(tmp_path, {}, card)) == ""


def test_licence_of_a_gguf_file_stands_in_it(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_license("apache-2.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert find_licence(ModelConfig(source=str(path))) == "apache-2.0"


def test_licence_of_a_model_that_is_gone_is_not_known() -> None:
    assert find_licence(ModelConfig(source="./no-such-folder")) == ""
