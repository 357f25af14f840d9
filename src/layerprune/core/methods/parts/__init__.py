"""What some methods share; a method imports the parts it needs, and only its records depend on them."""
