import argparse as _argparse


def _main(words=None):
    """Print a greeting.

    >>> _main([])
    'hello'
    """
    parser = _argparse.ArgumentParser()
    parser.add_argument("--name", default="")
    given = parser.parse_args(words)
    return f"hello {given.name}".strip()


_GREETING = _main([])

if __name__ == "__main__":
    print(_main())
