"""Records to pages: HTML, CSV, Markdown and figures."""
