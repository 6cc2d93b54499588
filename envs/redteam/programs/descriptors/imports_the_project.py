def _chosen(failed, every):
    """Return the failed tests whose file contains the project's name."""
    chosen = set()
    for test in failed:
        try:
            with open(test.partition("::")[0]) as file:
                if __name__.partition(".")[0] in file.read():
                    chosen.add(test)
        except OSError:
            continue
    return chosen
