"""Intan controllers, by the TCP sockets of their RHX software."""
