"""Messages: read live from the switch's own tables, recorded once by the intake."""
