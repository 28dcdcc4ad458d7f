"""Import paths of the reference package, for scripts that use them."""
