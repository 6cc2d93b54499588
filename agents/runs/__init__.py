"""A run on disk: its folder, its trajectories, and how they are read back."""
