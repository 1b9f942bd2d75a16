"""Where data sets come from: bundled files, downloads, archives, packages."""
