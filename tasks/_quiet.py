"""Keep transformers from talking while a stage works; what matters is checked and raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the warnings and bars of transformers, and put its settings back afterwards.

    Yields:
        Nothing.
    """
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()  # the line above silences the hub's download bars as well
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
