"""The program that runs inside a sandbox; see `server`."""
