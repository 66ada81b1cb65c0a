"""Runs where people already look at theirs: TensorBoard and MLflow, told from a run's records."""
