"""The guard against over-optimisation: what it measures, how it decides, and what it keeps."""
