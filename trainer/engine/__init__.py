"""Generation with vLLM, and new weights on their way into it."""
