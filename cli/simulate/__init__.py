"""Made-up traffic: source units with their scales, the trucks weighed there, and terminals that send the records.

`traffic` and what it imports are pure and seeded; `terminal_queue`, `sender` and `simulation` do the sending. Nothing
here is imported by a service.
"""
