"""One step of training or evaluation, and what it is built from."""
