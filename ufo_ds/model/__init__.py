"""The trunk, the pyramid and the joint model."""
