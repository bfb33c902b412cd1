"""Work that no connection waits for: generating a reply elsewhere, ending runs that have failed."""
