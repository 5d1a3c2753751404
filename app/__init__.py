"""A voicemail backend for FreeSWITCH: a REST API, mail notifications and the switch's directory."""
