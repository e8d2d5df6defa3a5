"""From a view of keys to notes."""
