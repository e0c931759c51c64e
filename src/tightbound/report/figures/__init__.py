"""Plots, image grids and line plots, encoded for the page."""
