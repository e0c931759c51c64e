"""Domain, splits, binarisation and conditions of data that were read."""
