"""The command `daythree`: parse, call, print."""
