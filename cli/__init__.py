"""The ``voxpop`` command: one file a group of commands, each of which imports what it needs when it runs."""
