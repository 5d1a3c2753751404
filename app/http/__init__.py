"""What every route shares: the application, tokens, problems, paging, OpenAPI and streaming."""
