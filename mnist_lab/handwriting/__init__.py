"""Handwriting read: from a picture to its digits."""
