"""Schema changes of the weighing service, oldest first in `versions`."""
