"""What the compiler makes of a step, and what it needs of a chip."""
