"""A coding task as a Gymnasium environment. Knows nothing of models or tokens."""
