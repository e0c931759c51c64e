"""Published results and ours: rows of a table, each trained and evaluated by one command."""
