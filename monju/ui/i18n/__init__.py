"""Every text of the page in English and Japanese, and how it is worded."""
