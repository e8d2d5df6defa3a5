"""Audeo: from a silent view of a keyboard to its notes."""
