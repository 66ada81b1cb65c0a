"""What `equiran new` copies: of every kind of part a class, its test, and a scenario that runs as it is."""
