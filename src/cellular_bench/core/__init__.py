"""Vocabulary of the package: errors, keys, types, outputs and file names. Imports nothing else of ours."""
