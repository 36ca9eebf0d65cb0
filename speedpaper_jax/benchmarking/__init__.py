"""Networks' speed beside other implementations of them, each measured in a process of its own."""
