import pytest

from basket import Basket


@pytest.fixture
def basket():
    made = Basket()
    made.add("pear", 40, 3)
    made.add("melon", 250)
    made.add("fig", 250, 2)
    return made


def test_total(basket):
    assert basket.total() == 870


def test_total_with_discount(basket):
    assert basket.total(percent_off=10) == 783


def test_dearest_is_the_first_of_equals(basket):
    assert basket.dearest() == "melon"


def test_dearest_of_nothing():
    assert Basket().dearest() is None


def test_remove_says_how_many(basket):
    assert basket.remove("fig") == 2
    assert basket.total() == 370


def test_count_must_be_positive(basket):
    with pytest.raises(ValueError):
        basket.add("plum", 30, 0)
