"""PINs: encrypted at rest; the last PIN set by the API or by phone is the only valid one."""
