"""Re-derives what journals prove from their stored bytes, with code of its own.

Shares nothing with what writes journals but the hash functions: it is written from RFC 6962 and the C2SP note formats
and imports neither `services` nor anything that does (held by `.importlinter`): one mistake cannot hide in both.
"""
