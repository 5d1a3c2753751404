"""Who may do what: scopes, grants and the tokens that carry them. It does not import ``http``, so every service can use it."""
