"""Trajectories into better weights: the only home of torch, ray and vllm."""
