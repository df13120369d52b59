"""Tests of the tools' commands."""
