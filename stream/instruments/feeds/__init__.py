"""Data from rigs made at home, and from other runs: UDP, ZeroMQ, WebSocket."""
