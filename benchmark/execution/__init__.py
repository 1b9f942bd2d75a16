"""Carry out the runs of a plan: prepare data, call methods, score outputs."""
