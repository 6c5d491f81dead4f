"""The audit log in files: written from a platform's services, and checked later by anybody, without the platform.

Knows the contracts and the verifier, and nothing of how services keep their journals.
"""
