"""What is shown of results outside the page: the terminal, HTML, LaTeX and CSV reports, figures."""
