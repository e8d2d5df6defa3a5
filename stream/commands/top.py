def top() -> None:
    """."""
