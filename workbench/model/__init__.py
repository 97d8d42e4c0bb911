"""The quantised base, its roles, log-probabilities, sampling, and what drives a TRL trainer."""
