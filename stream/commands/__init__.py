"""The command line, one file a command. Packages add theirs by entry points."""
