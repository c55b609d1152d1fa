"""R2Rank: think about each (user, item) pair, score it, sort."""
