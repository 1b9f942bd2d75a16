"""From run records to leaderboards, intervals, tests and comparisons."""
