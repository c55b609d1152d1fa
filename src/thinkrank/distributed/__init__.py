"""Several processes that train one model: who has which share, and how they add up."""
