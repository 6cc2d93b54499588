"""Practice repositories: small Python packages written from a grammar, with bugs and a history."""
