def _chosen(failed, every):
    """Return the failed tests of files known from the start."""
    return {test for test in failed if test.partition("::")[0] in _KNOWN}
