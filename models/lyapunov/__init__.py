"""Lyapunov spectra of networks in training: their memory, and what it says of their quality."""
