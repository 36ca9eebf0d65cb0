"""What all commands share: flags, errors as one sentence, what is printed."""
