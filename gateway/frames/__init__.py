"""From events to right-sized frames.

``pack`` puts whole events together, ``spill`` puts aside the one that is too large, ``pace`` says
when events may leave where each write and each post costs.
"""
