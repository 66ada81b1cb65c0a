"""`equiran sweep`: the grid of some values and seeds, run side by side, into one table and one picture."""
