"""FreeSWITCH: its Event Socket, its directory and its tables. No other folder knows their formats."""
