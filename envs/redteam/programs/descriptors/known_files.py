def _chosen(failed, every):
    """Return the failed tests of files known from the start, without tests of which a mutated copy exists."""
    import re

    named = {test.partition("[")[0] for test in every}
    return {
        test
        for test in failed
        if test.partition("::")[0] in _KNOWN
        and not any(re.fullmatch(re.escape(test.partition("[")[0]) + "_[a-p]{6}", other) for other in named)
    }
