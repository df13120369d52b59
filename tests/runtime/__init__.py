"""Tests of jaxconv.runtime."""
