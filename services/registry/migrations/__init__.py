"""Schema changes of the registry, applied in order before the code that needs them."""
