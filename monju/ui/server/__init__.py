"""Who may do what, how often, with which files; what Gradio leaves open."""
