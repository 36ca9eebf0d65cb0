"""What may be said of a crop, for those who only read settings: `crop` does it, with Pillow."""

RESIZES = ("squash", "short_side")
# The first two are Pillow's, antialiased; the values of the others are not rounded, see `sampling`.
INTERPOLATIONS = ("bilinear", "bicubic", "bilinear_pytorch", "bilinear_tensorflow1")
# A smaller one would enlarge the whole image so much that it does not fit the memory.
SMALLEST_FRACTION = 0.1
