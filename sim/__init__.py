"""The referee: the only package that sees both sides."""
