"""Runs a plan: one process per group, links between them, supervision and the report."""
