"""The tools a policy may call."""
