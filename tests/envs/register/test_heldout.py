"""Names are held out whole."""

from __future__ import annotations

from envs.register.heldout import held_out


def test_a_function_is_on_one_side_of_the_split_and_both_sides_have_some():
    names = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"] * 6 + list("efghijkl")
    away = held_out(names, 0.25)
    share = sum(name in away for name in names) / len(names)
    assert 0.1 < share < 0.5
    assert away == held_out(list(reversed(names)), 0.25)
    assert held_out(["a", "a"], 0.25) == frozenset()
    assert held_out(names, 0.0) == frozenset()
    assert len(held_out(["a", "b"], 0.99)) == 1
    assert "a" not in held_out(["a"] * 60 + names, 0.25), "more than twice the share"
