"""Schemas of the files that are read and written: records, suites, executors."""
