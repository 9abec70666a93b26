"""Looking at shards: figures of what they hold, and pictures of samples with their labels."""
