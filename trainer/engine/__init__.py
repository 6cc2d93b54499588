"""Generation with vLLM, and weight transfer into the engine."""
