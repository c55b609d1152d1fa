"""What the models read: histories, items, and the questions about them."""
