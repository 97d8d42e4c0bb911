"""A run and everything around it: configuration, folder, checkpoints, lineage, tracking, progress, errors."""
