"""The harness: plans runs, executes each in a separate process, scores and ranks them."""
