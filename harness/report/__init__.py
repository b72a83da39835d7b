"""Comparing runs: table, importances, HTML page."""
