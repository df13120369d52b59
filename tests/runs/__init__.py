"""Tests of jaxconv.runs."""
