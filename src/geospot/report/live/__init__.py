"""Pages that a server keeps up to date: a run while it trains, the game, one's own photos. Extra `pages`."""
