"""Where pictures come from: shards, worlds, splits."""
