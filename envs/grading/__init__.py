"""From what a policy left behind to a verdict: the only code that grades."""
