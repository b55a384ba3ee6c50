"""A renderer of the toy model, made once a file."""

from __future__ import annotations

import pytest

from tasks.tokens.rendering import Renderer, load_renderer
from tests.support.toy import TOY_TRAINING_TEMPLATE, make_toy_model


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("model")
    make_toy_model(folder / "model")
    (folder / "training_template.jinja").write_text(TOY_TRAINING_TEMPLATE, encoding="utf-8")
    return load_renderer(folder / "model", folder / "training_template.jinja")
