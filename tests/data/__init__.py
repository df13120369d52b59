"""Tests of jaxconv.data."""
