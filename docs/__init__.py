"""The documentation, and what writes the parts of it that repeat what the code knows."""
