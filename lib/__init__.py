"""Memorization under label noise: when to stop, seen on the training set alone."""
