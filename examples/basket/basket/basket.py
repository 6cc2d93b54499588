"""The basket itself."""

from .prices import discounted


class Basket:
    """Items with their prices, in the order in which they were put in."""

    def __init__(self):
        self._lines = []

    def add(self, name, price, count=1):
        """Put in `count` items of one kind."""
        if count < 1:
            raise ValueError("count must be at least 1")
        self._lines.append((name, price, count))

    def remove(self, name):
        """Take out every item of that name; says how many that were."""
        kept = [line for line in self._lines if line[0] != name]
        removed = sum(line[2] for line in self._lines) - sum(line[2] for line in kept)
        self._lines = kept
        return removed

    def total(self, percent_off=0):
        """What everything costs together, after a discount."""
        total = sum(price * count for _, price, count in self._lines)
        return discounted(total, percent_off)

    def dearest(self):
        """Name of the item with the highest price; the first of several, None of an empty basket."""
        best = None
        for name, price, _ in self._lines:
            if best is None or price > best[1]:
                best = (name, price)
        return best[0] if best else None
