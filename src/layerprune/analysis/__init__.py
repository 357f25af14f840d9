"""Records -> frames -> tables, figures, verification. Imports neither torch nor any method's code."""
