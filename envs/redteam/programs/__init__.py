"""The programs that cheats run in a sandbox: data, read as text by `envs.redteam.program` and never imported here.

Importing a program would run the program, and many end the process, fill its memory or change the test framework.
`source` joins several programs into one text and writes values, in capitals, above the programs. Every program runs on
Python 3.8.
"""
