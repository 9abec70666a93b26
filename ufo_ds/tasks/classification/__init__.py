"""The task classification: an image, one class."""
