"""Speed, measured side by side in one process: `python -m bench`. Ratios with their spread, never times alone."""
