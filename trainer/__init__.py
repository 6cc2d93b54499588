"""RL and SFT training of a policy; the only package that imports torch, ray and vllm."""
