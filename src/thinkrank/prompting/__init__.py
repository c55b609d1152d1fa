"""What every stage that asks a language model has in common: histories and items as token ids."""
