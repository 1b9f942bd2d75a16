"""From raw tables and files to a data set: reading, joining, quality control, recipes."""
