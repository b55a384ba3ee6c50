from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging

from tasks.models.quiet import quiet_transformers


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    yield
    enable_progress_bars()


def test_quiet_transformers_leaves_the_hubs_download_bars_on() -> None:
    enable_progress_bars()
    with quiet_transformers():
        assert not logging.is_progress_bar_enabled()
        assert not are_progress_bars_disabled()
    assert logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()


def test_quiet_transformers_does_not_switch_on_what_the_user_switched_off() -> None:
    disable_progress_bars()
    with quiet_transformers():
        assert are_progress_bars_disabled()
    assert are_progress_bars_disabled()


@pytest.mark.parametrize("has_bars", [True, False])
def test_quiet_transformers_bows_to_the_hubs_environment_variable(
    monkeypatch: pytest.MonkeyPatch, has_bars: bool
) -> None:
    module = sys.modules["huggingface_hub.utils.tqdm"]  # the name alone is a class in it
    with monkeypatch.context() as patched:
        patched.setattr(module, "HF_HUB_DISABLE_PROGRESS_BARS", not has_bars)
        with quiet_transformers():  # a warning would be an error here
            assert are_progress_bars_disabled() is not has_bars
