"""`equiran doctor`: what of this machine stands in the way of a run, and what to do about it.

Modules here import nothing but the standard library before they look: what is missing is what they are to say.
"""
