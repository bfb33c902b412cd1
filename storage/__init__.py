"""What is kept: records, the repositories that keep them, and blobs for large payloads.

To storage a log body is bytes and a person is an ``Owner``.
"""
