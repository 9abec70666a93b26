"""Gradient surgery on sharded gradients. Knows neither tasks nor models: only names, partitions and numbers."""
