"""Bytes of clients become requests, and responses become bytes."""
