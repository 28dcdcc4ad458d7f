"""Expands matrix.yaml into image definitions, renders and locks them, builds and checks them."""
