"""A run from its settings to its report, for every stage."""
