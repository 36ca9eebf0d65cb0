"""Data sets as global batches of uint8 images: sources, decoding, augmentation, batching."""
