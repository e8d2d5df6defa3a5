"""Commands that need PyTorch: `train` and `evaluate`."""
