"""What the papers show, to set beside what was measured."""
