"""Read a source tree: its packages, its declared dependencies and its test configuration."""
