"""From trajectories to batches."""
