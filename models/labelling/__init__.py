"""A local page by which a few labels, of clips that the system picks, become a recogniser."""
