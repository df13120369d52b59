"""Measurements of single parts, beside `tools.bench`, which compares the whole with its peers."""
