"""Optimisers, learning-rate schedules and gradient clipping, under PyTorch's names."""
