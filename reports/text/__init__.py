"""Reports as text: Markdown, CSV and LaTeX."""
