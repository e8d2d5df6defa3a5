"""The spatiotemporal neural data transformer: as published, and in a form that streams."""
