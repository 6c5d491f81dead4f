"""Every SQL statement of the weighing service, by noun: weighings and totals, lists, the directory."""
