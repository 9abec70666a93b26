"""From shards to batches: what a sample is, how it is read, in which order, on which rank."""
