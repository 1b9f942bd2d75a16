"""What users ask for, from a request to its result: run, score, rescore, report, export, reproduce."""
