from __future__ import annotations

from tasks.registry.history import History
from tasks.report.history_page import HEIGHT, MARGIN, WIDTH, bar_charts, loss_chart, render_history
from tests.support.reports import retrain, toy_history


def test_loss_chart_puts_the_lowest_loss_at_the_bottom_and_joins_champions() -> None:
    chart = loss_chart(toy_history().retrains)
    assert chart is not None
    assert [point.y for point in chart.points] == [
        MARGIN + (HEIGHT - 2 * MARGIN) / 2,
        MARGIN,
        HEIGHT - MARGIN,
    ]
    assert [point.x for point in chart.points] == [MARGIN, WIDTH / 2, WIDTH - MARGIN]
    assert chart.lines == ("30.0,110.0 610.0,190.0",)
    assert chart.points[1].text == "version 2, 2026-11-02: loss 3.5000, refused"


def test_loss_chart_breaks_where_the_evaluation_rows_changed() -> None:
    champions = [retrain(1, 3.0), retrain(2, 2.9), retrain(3, 2.0, eval_sha256="b")]
    chart = loss_chart(champions)
    assert chart is not None
    assert len(chart.lines) == 1
    assert chart.lines[0].count(",") == 2


def test_loss_chart_without_losses_is_left_out() -> None:
    assert loss_chart([retrain(1, None)]) is None
    assert "Score over time" not in render_history(
        History(name="toy", champion_version=None, retrains=(retrain(1, None),), rejections=())
    )


def test_bars_are_as_high_as_their_share_of_the_highest() -> None:
    rows, drift = bar_charts(toy_history().retrains)
    full = HEIGHT - 2 * MARGIN
    assert [bar.height for bar in rows.bars] == [round(full / 3, 1), round(full * 2 / 3, 1), full]
    assert rows.bars[2].text == "version 3: 300 training rows"
    assert rows.most == "300 training rows"
    assert [bar.text for bar in drift.bars] == ["version 3: population stability index 0.125"]
    assert [bar.height for bar in drift.bars] == [full]
    assert drift.bars[0].x == rows.bars[2].x  # the same version stands at the same place


def test_charts_of_what_no_version_knows_are_left_out() -> None:
    assert [chart.id for chart in bar_charts([retrain(1, 2.0, drift=0.0)])] == ["rows", "drift"]
    assert [chart.id for chart in bar_charts([retrain(1, 2.0)])] == ["rows"]


def test_page_says_who_is_champion_and_who_was_refused_and_why() -> None:
    page = render_history(toy_history())
    assert "Version 3 is champion: held-out loss 2.5000 nats per token, base 4.0000." in page
    assert "worse &lt;b&gt;" in page
    assert "30 of 190 rows &lt;i&gt;" in page
    assert "<dt>refused models</dt><dd>1</dd>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_page_of_refused_data_alone_is_whole() -> None:
    history = History(
        name="toy", champion_version=None, retrains=(), rejections=toy_history().rejections
    )
    page = render_history(history)
    assert "There is no champion." in page
    assert "Every version" not in page
