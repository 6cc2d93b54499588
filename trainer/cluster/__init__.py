"""Ray: the session, the executor on its nodes, and what removes leftovers."""
