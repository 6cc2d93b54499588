"""Day Three: an agentic coding environment and gym for multi-step RL."""
