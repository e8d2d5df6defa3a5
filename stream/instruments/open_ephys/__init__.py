"""Sources for the Open Ephys GUI: its ZMQ Interface and its Event Broadcaster."""
