"""Comparing runs: `comparison` puts them side by side; `table`, `page` and its own JSON and CSV show it."""
