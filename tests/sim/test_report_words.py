"""Names and numbers as a report writes them."""

import pytest

from sim.report.words import breakable, seconds


def test_a_name_may_be_broken_behind_its_punctuation_and_nowhere_else():
    assert breakable("a_b-c.d/e:") == "a_<wbr>b-<wbr>c.<wbr>d/<wbr>e:"
    assert breakable("plain") == "plain"
    assert breakable("a.b=-0.05,c=1e-3") == "a.<wbr>b=-0.05,<wbr>c=1e-3"


def test_a_name_stays_text():
    assert breakable("<b>_&") == "&lt;b&gt;_<wbr>&amp;"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (16.0, "16.0 s"), (0.048, "0.0480 s"), (99.94, "99.9 s"), (99.96, "100 s"), (1234.5, "1,234 s")],  # noqa: RUF001
)
def test_seconds_have_three_digits_and_whole_ones_from_a_hundred(value, said):
    assert seconds(value) == said
