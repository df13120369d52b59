"""Tests of jaxconv.models."""
