"""Notes to and from MIDI ports and files."""
