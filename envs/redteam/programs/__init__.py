"""The programs that cheats run in a sandbox: data, read as text by `envs.redteam.program` and never imported here.

Importing one would run it, and many end the process, fill its memory or change the test framework. A program may be
the later part of a text, and it may use values, in capitals, that `source` writes above it. They run on Python 3.8.
"""
