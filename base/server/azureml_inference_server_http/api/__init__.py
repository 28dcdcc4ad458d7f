"""The classes that a scoring script imports."""
