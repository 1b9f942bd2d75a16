"""Metrics of embeddings, graphs and corrected expression."""
