"""Tests of the experiments' commands."""
