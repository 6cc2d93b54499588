"""Policies, the rollout loop, evaluations and run folders. Free of torch and of gradients."""
