"""The report's page, without a run."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.report.run_page import (
    embed_curve,
    gate_charts,
    key_gate,
    render_page,
    sort_rules,
    training_facts,
)
from tests.support.reports import gate, toy_report, toy_training

CURVE = {"source": "data:image/svg+xml;base64,PHN2Zy8+", "text": "from 2 to 1"}


def test_embed_curve_holds_the_picture_and_its_words(tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    picture.write_text("<svg/>", encoding="utf-8")
    embedded = embed_curve(picture, [{"step": 1, "loss": 2.0}])
    assert embedded["source"] == "data:image/svg+xml;base64,PHN2Zy8+"
    assert embedded["text"].startswith("Training loss from 2.000 at step 1")


def test_training_facts_are_in_units_people_read() -> None:
    assert training_facts(toy_training()) == {
        "device": "cpu",
        "steps": "1,200",
        "tokens": "9,000",
        "tokens per second": "150",
        "time": "1 min 0 s",
        "peak memory": "3.0 MiB",
        "trained parameters": "5,000",
        "batch": "2 sequences x 4 accumulated x 1 processes",
        "loss": "2 → 1",
    }
    rest = training_facts(
        toy_training(best_step=40, best_validation_loss=1.25, resumed_from_step=20)
    )
    assert rest["model is of step"] == "40"
    assert rest["lowest validation loss"] == "1.250"
    assert rest["resumed from step"] == "20"


def test_render_page_shows_the_training() -> None:
    page = render_page(toy_report(), CURVE)
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+" alt="from 2 to 1">' in page
    assert "the batch was halved" in page
    assert '<th scope="row">packing</th><td>on: rows are short &lt;b&gt;</td>' in page
    assert "3.0 MiB" in page


def test_render_page_escapes_what_comes_from_the_data() -> None:
    page = render_page(toy_report(), CURVE)
    assert "<script>x" not in page
    assert "&lt;script&gt;" in page
    assert "refused" in page
    assert "http" not in page.split("</style>")[1]


def test_render_page_gives_intervals_next_to_the_metrics() -> None:
    page = render_page(toy_report(), CURVE)
    assert '<td class="number">1 <small class="quiet">[0.750, 1.250]</small></td>' in page
    assert page.count('<td class="number">1</td>') == 1  # the base's, which has none


def test_render_page_names_the_level_of_each_interval() -> None:
    kept = gate(id="general_loss_kept", confidence=0.9)
    skipped = gate(verdict="skipped", gain=None, interval_low=None, confidence=None)
    page = render_page(toy_report(gates=[gate(), kept, skipped], confidence=0.975), CURVE)
    levels = re.findall(r'<td class="number">(-|[\d.]+ %)</td><td class="number">0</td></tr>', page)
    assert levels == ["97.5 %", "90 %", "-"]
    assert "<small>97.5 % interval [+0.250, +1]</small>" in page
    assert "held-out rows, with 95 % intervals" in page  # of the metrics


def test_render_page_says_why_a_scheduled_run_trained() -> None:
    page = render_page(toy_report(retrain={"detail": "5 rows are <new>"}), CURVE)
    assert "Why this run trained:</strong> 5 rows are &lt;new&gt;" in page


def test_sort_rules_puts_what_failed_first_and_folds_the_rest() -> None:
    def rule(name: str, verdict: str, n_rows: int) -> dict[str, object]:
        return {"id": name, "verdict": verdict, "n_rows": n_rows}

    passed, kept = rule("a", "passed", 0), rule("b", "passed", 2)
    warned, failed = rule("c", "warned", 9), rule("d", "failed", 0)
    assert sort_rules([passed, kept, warned, failed]) == ([failed, warned, kept], [passed])


def test_gate_charts_place_values_between_the_margins() -> None:
    [chart] = gate_charts([gate()])
    # 0 lies at 24 and 1 at 560 - 24
    assert (chart.zero_x, chart.limit_x, chart.low_x) == (24.0, 24.0, 152.0)
    assert (chart.value_x, chart.high_x) == (280.0, 536.0)
    assert chart.text == ("gain over base +0.500, 97.5 % interval [+0.250, +1], limit 0; passed.")


def test_gate_charts_show_the_value_of_an_absolute_gate() -> None:
    absolute = gate(against="absolute", gain=None, opponent=None, challenger=0.75, limit=0.5)
    [chart] = gate_charts([absolute])
    assert (chart.value, chart.interval, chart.zero_x) == ("0.750", "[0.250, 1]", None)
    assert chart.title == "loss: value"


def test_gate_charts_leave_out_gates_without_interval() -> None:
    assert gate_charts([gate(interval_low=None, interval_high=None)]) == []


def test_key_gate_is_what_the_verdict_rests_on() -> None:
    base, champion = gate(), gate(against="champion")
    failed, warned = gate(verdict="failed"), gate(verdict="failed", severity="warn")
    assert key_gate([base, champion, warned]) is champion
    assert key_gate([champion, failed]) is failed
    assert key_gate([]) is None
