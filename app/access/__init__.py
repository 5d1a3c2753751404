"""Who may do what: scopes, grants and the tokens that carry them. It lies below ``http``, so that every service can ask."""
