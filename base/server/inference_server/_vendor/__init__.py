"""Packages of others, taken in so that what users install never meets them: see README.md."""
