"""Runs on Dask clusters, and on Slurm through Dask."""
