"""Silence transformers while a stage works; what matters is checked and raised."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the warnings and bars of transformers, and restore its settings afterwards.

    The hub's bars stay as they are, so that a model's download shows progress.
    """
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    with _hub_bars_kept():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            with _hub_bars_kept():
                logging.enable_progress_bar()


@contextmanager
def _hub_bars_kept() -> Iterator[None]:
    """Restore the hub's bars: transformers switches them along with its own."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    switch_back = disable_progress_bars if are_progress_bars_disabled() else enable_progress_bars
    with warnings.catch_warnings():  # the hub warns when its environment variable takes precedence
        warnings.filterwarnings("ignore", message="Cannot (en|dis)able progress bars")
        yield
        switch_back()
