"""What the papers' equations compute, line by line, on inputs small enough to follow by hand."""
