"""Runs of the book: each module is one command."""
