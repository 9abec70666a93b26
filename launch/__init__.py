"""Entry points, one job each."""
