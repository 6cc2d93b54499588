import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from agents.viewer.charts import Mark, learning_curve, smooth, sparkline, ticks

RATES = st.lists(st.floats(0, 1), max_size=40)


@given(rates=RATES, marks=st.lists(st.floats(0, 1), max_size=4))
def test_every_point_lies_inside_the_picture(rates: list[float], marks: list[float]) -> None:
    points = [(float(step), rate) for step, rate in enumerate(rates)]
    drawn = learning_curve(points, [Mark(float(i), y, "<m>", "after") for i, y in enumerate(marks)])
    for circle in ElementTree.fromstring(drawn).iter("circle"):
        assert 0 <= float(circle.get("cx", "nan")) <= 960
        assert 0 <= float(circle.get("cy", "nan")) <= 320


def test_labels_are_escaped() -> None:
    drawn = learning_curve([(0, 0.1), (1, 0.2)], [Mark(0, 0.5, "<script>", 'a"b')])
    assert "<script>" not in drawn
    ElementTree.fromstring(drawn)


@given(st.integers(0, 1000), st.integers(1, 5000), st.integers(1, 10))
def test_ticks_are_round_ascending_and_within(low: int, span: int, count: int) -> None:
    values = ticks(low, low + span, count)
    assert values == sorted(set(values))
    assert all(low <= value <= low + span for value in values)
    assert len(values) <= count + 1


@given(RATES)
def test_smoothing_keeps_steps_and_range(rates: list[float]) -> None:
    points = [(float(step), rate) for step, rate in enumerate(rates)]
    smoothed = smooth(points)
    assert [x for x, _ in smoothed] == [x for x, _ in points]
    assert all(min(rates) - 1e-9 <= y <= max(rates) + 1e-9 for _, y in smoothed)


def test_a_flat_line_still_draws() -> None:
    ElementTree.fromstring(sparkline([(1, 3.0), (2, 3.0)]))
