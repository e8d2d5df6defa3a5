"""Blackrock's neural signal processors (Cerebus, Gemini), by their UDP packets."""
