"""Tests: the folders of the package, commands, faults injected, and oracles."""
