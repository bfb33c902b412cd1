"""From events to right-sized frames: `pack` whole events, `spill` the one that is too large."""
