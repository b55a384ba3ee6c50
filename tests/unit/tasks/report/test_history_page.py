from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from tasks.registry.history import History
from tasks.report.history_page import (
    HEIGHT,
    MOST_LABELS,
    TOP,
    Line,
    Tick,
    bar_charts,
    loss_chart,
    render_history,
    version_labels,
)
from tests.support.reports import retrain, toy_history

BOTTOM = TOP + HEIGHT


def test_loss_chart_puts_the_lowest_loss_at_the_bottom_under_named_values() -> None:
    chart = loss_chart(toy_history().retrains)
    assert chart is not None
    # losses 3, 3.5 and 2.5 of three versions, and 4 of the base: an axis from 2.5 to 4
    third = HEIGHT / 3
    assert [point.y for point in chart.points] == [
        round(TOP + 2 * third, 1),
        round(TOP + third, 1),
        BOTTOM,
    ]
    assert [point.x for point in chart.points] == [16.67, 50.0, 83.33]
    assert [tick.text for tick in chart.values] == ["2.5", "3.0", "3.5", "4.0"]
    assert (chart.values[0].at, chart.values[-1].at) == (BOTTOM, TOP)
    assert chart.points[1].text == "version 2, 2026-11-02: loss 3.500, refused, base 4"
    assert chart.bases == (Line(0.0, TOP, 100.0, TOP),)


def test_loss_chart_steps_from_champion_to_champion_past_the_refused() -> None:
    chart = loss_chart(toy_history().retrains)
    assert chart is not None
    first, _, third = chart.points
    assert chart.champions == (
        Line(first.x, first.y, third.x, first.y),
        Line(third.x, first.y, third.x, third.y),
        Line(third.x, third.y, 100.0, third.y),
    )


def test_loss_chart_breaks_where_the_evaluation_rows_changed() -> None:
    champions = [retrain(1, 3.0), retrain(2, 2.9), retrain(3, 2.0, eval_sha256="b", base_loss=3.5)]
    chart = loss_chart(champions)
    assert chart is not None
    assert chart.changes == (66.67,)
    crossing = [line for line in chart.champions if line.x1 < 66.67 < line.x2]
    assert crossing == []
    assert chart.champions[-1].x1 == chart.points[2].x
    assert [(line.x1, line.x2) for line in chart.bases] == [(0.0, 66.67), (66.67, 100.0)]


def test_loss_chart_without_losses_is_left_out() -> None:
    assert loss_chart([retrain(1, None)]) is None
    assert loss_chart([retrain(1, math.nan)]) is None
    assert "Loss over time" not in render_history(
        History(name="toy", champion_version=None, retrains=(retrain(1, None),), rejections=())
    )


def test_loss_chart_leaves_out_losses_that_are_no_numbers() -> None:
    chart = loss_chart([retrain(1, 3.0, base_loss=None), retrain(2, math.inf, base_loss=math.nan)])
    assert chart is not None
    assert [point.retrain.version for point in chart.points] == [1]
    assert chart.bases == ()


@pytest.mark.parametrize(
    ("losses", "texts"),
    [
        ((3.229,), ["3", "4"]),
        ((3.2291, 3.2302), ["3.2290", "3.2295", "3.2300", "3.2305"]),
        ((2.0, 2000.0), ["0", "500", "1,000", "1,500", "2,000"]),
    ],
)
def test_axis_has_a_few_round_values_that_enclose_all(
    losses: tuple[float, ...], texts: list[str]
) -> None:
    retrains = [retrain(place, loss, base_loss=None) for place, loss in enumerate(losses, start=1)]
    chart = loss_chart(retrains)
    assert chart is not None
    assert [tick.text for tick in chart.values] == texts
    assert all(TOP <= point.y <= BOTTOM for point in chart.points)


def test_bars_are_as_high_as_their_share_of_the_axis() -> None:
    rows, drift = bar_charts(toy_history().retrains)
    assert [bar.height for bar in rows.bars] == pytest.approx(
        [HEIGHT / 3, HEIGHT * 2 / 3, HEIGHT], abs=0.1
    )
    assert rows.bars[2].text == "version 3: 300 training rows"
    assert [tick.text for tick in rows.values] == ["0", "100", "200", "300"]
    assert [bar.text for bar in drift.bars] == ["version 3: 0.125 drift"]
    assert [tick.text for tick in drift.values] == ["0.00", "0.05", "0.10", "0.15"]
    assert drift.bars[0].x == rows.bars[2].x  # the same version has the same place


def test_charts_of_what_no_version_has_are_left_out() -> None:
    assert [chart.id for chart in bar_charts([retrain(1, 2.0, drift=0.0)])] == ["rows", "drift"]
    assert [chart.id for chart in bar_charts([retrain(1, 2.0)])] == ["rows"]


def test_labels_name_the_newest_version_and_a_few_others_with_dates() -> None:
    assert version_labels([retrain(1, 3.0)]) == ((Tick(50.0, "v1"), "01 Nov"),)
    labels = version_labels([retrain(number, 3.0) for number in range(1, 30)])
    assert len(labels) <= MOST_LABELS
    assert (labels[-1][0].text, labels[-1][1]) == ("v29", "29 Nov")


def test_labels_give_times_within_a_day_and_years_across_years() -> None:
    def at(*moments: datetime) -> list[str]:
        found = [retrain(1, 3.0, judged_at=moment) for moment in moments]
        return [date for _, date in version_labels(found)]

    new = datetime(2026, 1, 2, 13, 5, tzinfo=UTC)
    assert at(new.replace(hour=9), new) == ["09:05", "13:05"]
    assert at(new.replace(year=2025), new) == ["Jan 2025", "Jan 2026"]


def test_page_names_the_champion_and_what_was_refused_and_why() -> None:
    page = render_history(toy_history())
    assert "Version 3 is champion: held-out loss 2.500 nats per token, base 4." in page
    assert "worse &lt;b&gt;" in page
    assert "30 of 190 rows &lt;i&gt;" in page
    assert "<dt>models refused</dt><dd>1</dd>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    legend = page[page.index('class="legend"') : page.index("<figure>")]
    assert all(word in legend for word in ("promoted", "refused", "champion", "base model"))
    assert "not promoted" not in legend  # what does not occur is not explained
    assert "evaluation rows changed" not in legend


def test_page_of_one_version_has_its_point_and_the_base() -> None:
    page = render_history(
        History(name="toy", champion_version=1, retrains=(retrain(1, 3.0),), rejections=())
    )
    assert "One version so far" in page
    assert 'class="base"' in page
    assert page.count("<figure>") == 1  # one bar alone is no picture


def test_page_of_rejected_data_alone_is_complete() -> None:
    history = History(
        name="toy", champion_version=None, retrains=(), rejections=toy_history().rejections
    )
    page = render_history(history)
    assert "There is no champion. No model was registered yet" in page
    assert "Every version" not in page
    assert "<figure>" not in page
