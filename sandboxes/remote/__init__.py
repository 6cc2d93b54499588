"""The sandbox contract spoken over one byte stream to a program inside."""
