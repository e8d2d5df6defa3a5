"""From a trained network to one verified model file."""
