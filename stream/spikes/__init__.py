"""Spikes: recordings, how they are read and replayed, and their bins."""
