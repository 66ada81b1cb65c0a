"""`equiran diff`: what two run directories have different, bit for bit."""
