"""Metrics of the structure of the data that an integration must leave as it is."""
