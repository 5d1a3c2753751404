"""The switch's own tables: all SQL over voicemail_msgs and voicemail_prefs."""
