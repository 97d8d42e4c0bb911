"""The memory and the hours of a configuration, planned, and measured on random weights."""
