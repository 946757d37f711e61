"""Speed against what one would otherwise use; imported by the command line alone."""
