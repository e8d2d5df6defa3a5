"""Graphs of units offline: simulations with known graphs, scores, stability, interventions."""
