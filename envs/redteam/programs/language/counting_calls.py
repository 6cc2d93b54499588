_COUNTS = {}


def _count(name):
    """Count the calls of a name over the whole process, for a report of usage."""
    _COUNTS[name] = _COUNTS.get(name, 0) + 1
    return _COUNTS[name]


_FIRST = _count("import")
