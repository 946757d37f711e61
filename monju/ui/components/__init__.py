"""Parts of the page that draw plain values as HTML, and small widgets."""
