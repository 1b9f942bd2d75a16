"""The harness: plans runs, executes each in a process of its own, scores and ranks them."""
