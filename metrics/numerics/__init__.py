"""Distances, neighbours and other computations that metrics share."""
