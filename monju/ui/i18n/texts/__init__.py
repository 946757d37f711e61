"""What the page says, in English and Japanese side by side: one file a tab."""
