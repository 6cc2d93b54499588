"""The program that runs inside a sandbox; `server` is its main module."""
