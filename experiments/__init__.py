"""Runs of the book: catsdogs, folders, mnist and mnist_study are commands; the other modules are their common parts."""
