"""Rows of users' files, a module for each kind of file."""
