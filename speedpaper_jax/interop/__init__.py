"""Weights and behaviour of the networks' PyTorch implementations; PyTorch itself is an extra."""
