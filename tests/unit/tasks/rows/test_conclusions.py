from __future__ import annotations

import numpy
import polars
import pytest

from tasks.rows.conclusions import conclusion, conclusions


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("we add 5 and 4. #### 1,234", "1234"),
        ("so x = 5. the answer is 52 dimes.", "52"),
        (r"thus \boxed{52}", "52"),
        (r"thus \boxed{\frac{1}{2}} holds", r"\frac{1}{2}"),
        (r"first \boxed{1}, then \boxed{2.0}", "2"),
        ("the answer is (b).", "b"),
        ("**answer:** yes, it is", "yes"),
        ("answer: **c**", "c"),
        ("it is two metres tall, built in 1850", ""),
        ("the answer is blowing in the wind", ""),
        ("", ""),
    ],
)
def test_conclusion_is_a_number_a_choice_or_nothing(answer: str, expected: str) -> None:
    assert conclusion(answer) == expected


def test_conclusions_of_labels_are_the_labels() -> None:
    answers = polars.Series(["yes", "no", "yes", "a b c #### 7", "d e f #### 7", "free text here"])
    is_label = numpy.array([True, True, True, False, False, False])
    found = conclusions(answers, is_label).tolist()
    assert found[0] == found[2] != found[1]
    assert found[3] == found[4] != 0
    assert found[5] == 0
    assert len({*found}) == 4


def test_conclusions_of_no_rows() -> None:
    answers = polars.Series([], dtype=polars.String)
    assert conclusions(answers, numpy.zeros(0, dtype=bool)).tolist() == []
