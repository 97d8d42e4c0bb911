"""Answers of several runs on one base for many requests at a time."""
