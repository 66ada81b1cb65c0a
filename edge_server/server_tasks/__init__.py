"""Trainers that the edge hosts beside its slots, each a process of its own at the lowest priority."""
