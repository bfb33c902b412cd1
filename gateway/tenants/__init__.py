"""What a tenant's users may do: ``tier`` has the limits of a plan."""
