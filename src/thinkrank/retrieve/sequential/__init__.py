"""Small networks that read the items of a history in order, and their one training: SASRec and GRU4Rec."""
