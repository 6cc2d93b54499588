import pytest

from basket import discounted, in_words, split_evenly


@pytest.mark.parametrize(
    "amount, percent, left", [(1000, 0, 1000), (1000, 15, 850), (999, 50, 500), (5, 100, 0)]
)
def test_discounted(amount, percent, left):
    assert discounted(amount, percent) == left


@pytest.mark.parametrize("percent", [-1, 101])
def test_impossible_discounts(percent):
    with pytest.raises(ValueError):
        discounted(100, percent)


def test_split_evenly():
    assert split_evenly(100, 3) == [34, 33, 33]
    assert split_evenly(9, 3) == [3, 3, 3]


def test_in_words():
    assert in_words(123456) == "1,234.56 EUR"
    assert in_words(-5, "USD") == "-0.05 USD"
