"""Examples that arrive in order: shards, hubs and loaders."""
