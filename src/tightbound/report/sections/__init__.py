"""The sections of a report, in order."""
