"""Nodes that serve any system: a model, a view, a tap."""
