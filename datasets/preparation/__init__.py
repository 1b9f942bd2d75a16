"""Preparation of data sets from raw files: reading, joining, quality control, recipes."""
