"""The command line: one verb a file, and the place where the floors below are put together."""
