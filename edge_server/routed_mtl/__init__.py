"""Routed multi-task learning: one network for many power-allocation tasks (arXiv 2502.10027)."""
