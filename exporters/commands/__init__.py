"""Commands that make model files."""
