"""A trained model in raw units, and its folder."""
