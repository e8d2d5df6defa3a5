"""Live music: finding a keyboard in a picture, notes, MIDI and sound."""
