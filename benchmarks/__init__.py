"""Checks and measurements of the installed operators; ``sylvester check`` and ``sylvester bench`` call them."""
