"""FreeSWITCH: its Event Socket, its directory and its tables. Nothing outside knows their grammar."""
