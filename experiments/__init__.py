"""Experiments of the book: the commands catsdogs, folders, mnist and mnist_study, and their common parts."""
