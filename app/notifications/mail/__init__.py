"""One mail: its text, and the conversation with the mail server."""
