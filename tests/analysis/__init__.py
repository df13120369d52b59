"""Tests of jaxconv.analysis."""
