"""The services of a Zhichao platform. A service imports `journal` and `common`, never another service."""
