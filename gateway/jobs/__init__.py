"""Work that no connection waits for.

``reply`` generates a reply in a process of its own, ``seal`` ends runs whose generation has failed;
both wait a while for those who read the run (``serve``).
"""
