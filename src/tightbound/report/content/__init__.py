"""What a report shows, computed from runs."""
