"""Oracles that are not this project's code."""
