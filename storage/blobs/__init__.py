"""Blobs: large bodies outside the database, reached by expiring signed URLs (claim check)."""
