"""`python -m daythree` is the command `daythree`."""

from .cli.app import main

if __name__ == "__main__":
    main()
