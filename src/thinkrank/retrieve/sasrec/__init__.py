"""SASRec: self-attention over the items of a history, and its training."""
