"""What the package needs of Python and the machine, and that knows nothing of VAEs."""
