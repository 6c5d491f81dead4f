"""Import of records kept elsewhere: files with columns of any name and unit, sent as weighings.

`table` reads lines, `mapping` says what a column means, `conversion` makes records, `run` sends and counts, `report`
shows. Nothing here is imported by a service.
"""
