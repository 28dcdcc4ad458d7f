"""The import paths of the reference package, for scripts that name them."""
