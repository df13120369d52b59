"""Tests of jaxconv.training."""
