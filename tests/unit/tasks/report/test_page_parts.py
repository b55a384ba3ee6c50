from __future__ import annotations

from tasks.report._page_parts import (
    MOST_CHARACTERS,
    MOST_ROW_CHARACTERS,
    MOST_TOKENS,
    Bar,
    cut_row,
    histogram_bars,
    named_bars,
    token_parts,
    visible,
)


def test_visible_writes_out_what_cannot_be_seen() -> None:
    assert visible("a\tb\n\u202e\x1b\ufeff\udc00") == "a\tb\n\\u202e\\u001b\\ufeff\\udc00"
    family = "\U0001f468\u200d\U0001f469"
    assert visible(family) == family
    assert visible("a" * 600) == "a" * MOST_CHARACTERS + "…"
    assert visible("a" * 600, None) == "a" * 600


def test_histogram_bars_name_bins_that_double_in_width() -> None:
    assert histogram_bars([0, 2, 0, 1]) == [
        Bar("1", 2, 100),
        Bar("2 to 3", 0, 0),
        Bar("4 to 7", 1, 50),
    ]
    assert histogram_bars([4])[0].label == "0"
    assert histogram_bars(()) == []


def test_cut_row_keeps_the_beginning() -> None:
    row = [("a", False), ("b", True)]
    assert cut_row(row).parts == row
    assert not cut_row(row).is_cut
    assert len(cut_row([("a", True)] * (MOST_TOKENS + 1)).parts) == MOST_TOKENS
    long = cut_row([("a" * MOST_ROW_CHARACTERS, True), ("b", True)])
    assert (len(long.parts), long.is_cut) == (1, True)


def test_token_parts_sort_figures_groups_and_histograms() -> None:
    parts = token_parts(
        {
            "n_tokens": 1234,
            "supervised_fraction": 0.25,
            "estimated_seconds": None,
            "quantiles": {"0.5": 12, "0.99": 34.5},
            "length_histogram": [0, 3],
            "rendered_rows": [[["a", True]]],
        }
    )
    assert parts.numbers == {"Tokens": "1,234", "Supervised fraction": "25 %"}
    assert parts.tables == {"Quantiles": {"0.5": "12", "0.99": "34.500"}}
    assert parts.histograms == {"Length histogram": [Bar("1", 3, 100)]}


def test_named_bars_keep_their_order() -> None:
    assert named_bars({"b": 1, "a": 4}) == [Bar("b", 1, 25), Bar("a", 4, 100)]
