"""Metrics of predicted labels, their probabilities and novelty scores."""
