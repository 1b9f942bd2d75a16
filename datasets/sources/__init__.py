"""Sources of data sets: bundled files, downloads, archives, packages."""
