"""Plots and grids of images."""
