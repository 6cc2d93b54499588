"""Sums with prices."""


def discounted(amount, percent):
    """Take a discount off; what is left is rounded up to a whole cent."""
    if not 0 <= percent <= 100:
        raise ValueError("percent must be between 0 and 100")
    return -(-amount * (100 - percent) // 100)


def split_evenly(amount, people):
    """Divide an amount; the first people pay the cents that are left over."""
    share, left = divmod(amount, people)
    return [share + 1 if number < left else share for number in range(people)]


def in_words(amount, currency="EUR"):
    """Write an amount: 123456 becomes `1,234.56 EUR`."""
    whole, cents = divmod(abs(amount), 100)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole:,}.{cents:02d} {currency}"
