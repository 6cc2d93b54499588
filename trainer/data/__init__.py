"""Training data: task sampler, samples, buffer, batches and lessons."""
