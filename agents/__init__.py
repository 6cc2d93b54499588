"""A policy acting in an environment. Knows nothing of gradients."""
