"""EGLR: write the final list item by item, and think latently where the choice is uncertain."""
