"""``voicemail doctor``: everything the service needs, checked in order, each with what it means and what to do."""
