"""The air between edge and users: gains, the virtual clock, and who gets how much power."""
