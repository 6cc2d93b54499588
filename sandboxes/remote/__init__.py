"""The sandbox contract over one byte stream to a program inside."""
