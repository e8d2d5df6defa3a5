"""Closing the loop: rules on streams, and outputs that act on them only while data are fresh."""
