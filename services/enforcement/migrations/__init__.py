"""Schema changes of the enforcement service, applied in order before the code that needs them."""
