"""Decide how to train, before a training starts: from machine, model and rows alone."""
