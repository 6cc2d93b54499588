"""The learner: model, optimiser, checkpoints, updates."""
