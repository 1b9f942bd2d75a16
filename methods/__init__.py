"""Method adapters: one file (or package) per method, found by name without a list to edit."""
