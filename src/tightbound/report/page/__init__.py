"""Blocks and sentences that sections are made of."""
