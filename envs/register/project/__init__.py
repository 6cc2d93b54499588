"""What a source tree declares: its packages, its dependencies, how its tests run."""
