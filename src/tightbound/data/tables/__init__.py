"""Tables whose columns have names and types."""
