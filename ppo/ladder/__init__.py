"""Preference pairs built automatically from answers of different strength."""
