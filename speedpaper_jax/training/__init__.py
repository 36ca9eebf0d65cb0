"""The training loop of one network."""
