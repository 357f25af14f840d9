"""What each figure plots, computed from a study: a tidy frame each, nothing drawn."""
