"""The checks that any backend must pass, as plain functions that raise AssertionError."""
