"""Many models at once: fit_many, what it is given, and what its models say together."""
