"""The content of a report as plain arrays, computed from runs and their data."""
