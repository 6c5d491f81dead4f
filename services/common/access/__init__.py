"""Who calls, what they may do, and how a call is held against it. Knows credentials and divisions and no other business
word; credentials are issued by the registry, which serves `zhichao.access.v1.AccessService`.
"""
