"""The task detection: an image, boxes with a category and a score."""
