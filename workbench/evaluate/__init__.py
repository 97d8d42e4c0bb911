"""Metrics, win rates, statistics, the evaluation of a run, the report."""
