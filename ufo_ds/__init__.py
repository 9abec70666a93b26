"""UFO-DS: one vision transformer, three traffic-scene tasks, one DeepSpeed ZeRO-2 run."""

__version__ = "0.1.0"
