"""What networks are made of, counted from their traces; nothing is computed."""
