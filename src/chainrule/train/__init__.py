"""Training: checkpoints, resume, metrics, progress."""
