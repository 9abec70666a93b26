"""The task segmentation: an image, a class for every pixel."""
