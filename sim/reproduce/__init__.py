"""`equiran reproduce`: a paper's experiment run again, its numbers beside the paper's, with spread and verdict."""
