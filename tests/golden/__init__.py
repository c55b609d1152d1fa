"""What must not change: curves of every trainer and answers of saved models, on tiny made data."""
