"""Files of any kind: what they may hold, and how they are read and written."""
