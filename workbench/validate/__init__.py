"""The doctor for data: what a phase would do with a file, and what is wrong with it."""
