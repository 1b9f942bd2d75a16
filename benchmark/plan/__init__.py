"""From a suite to its runs, each with a stable id."""
