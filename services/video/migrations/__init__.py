"""Schema changes of the video service, applied in order before the code that needs them."""
