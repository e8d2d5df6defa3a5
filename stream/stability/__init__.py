"""What a model file remembers and whether it is stable: measured on the exported step."""
