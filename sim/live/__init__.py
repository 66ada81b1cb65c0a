"""The live page of runs: read from their records alone, served on loopback."""
