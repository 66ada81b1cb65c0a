"""`equiran serve` and `equiran join`: the edge and its users as processes that nobody places."""
