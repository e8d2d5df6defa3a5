"""Models of spike trains: data, training, metrics, rivals and evaluation, shared by all networks."""
