"""Metrics of the structure of types: their arrangement, and what differs within them."""
