"""What `zhichao doctor` looks at. Each check tells one finding, bounded in time, and needs no other one."""
