"""A person's own data.

``account`` reads, renames and forgets it, ``pages`` cuts lists into answers that fit a frame.
"""
