"""Live instruments of others: Open Ephys, LSL, Intan, Blackrock, and rigs made at home."""
