"""The blocks of which sections are composed, and the texts of each language."""
