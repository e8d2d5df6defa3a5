"""Keyboards and playing hands, drawn with exact labels."""
