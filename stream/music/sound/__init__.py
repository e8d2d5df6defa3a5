"""Notes as sound: a SoundFont, a sound card, a file."""
