"""The sections of the page, from the content of each run."""
