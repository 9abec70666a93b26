"""Tars that others wrote, on their way to a split that UFO-DS trains from."""
