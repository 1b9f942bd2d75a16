"""What a correction does to cells of one batch, where nothing is to be corrected."""
