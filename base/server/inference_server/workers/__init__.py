"""The workers as the service sees them, and the protocol between the two."""
