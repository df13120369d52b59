"""Predictions, scores, interpretation and comparison of trained nets; and an audit of pictures."""
