"""A person's own data: pages of history, sessions and memories, renaming and forgetting."""
