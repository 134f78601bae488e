"""Video files: reading their frames, and what their headers say."""
