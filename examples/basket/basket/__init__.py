"""A shopping basket. Amounts are whole cents."""

from .basket import Basket
from .prices import discounted, in_words, split_evenly

__all__ = ["Basket", "discounted", "in_words", "split_evenly"]
