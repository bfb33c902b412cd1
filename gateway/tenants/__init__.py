"""What a tenant's users may do: ``tier`` has a plan's limits, ``allowance`` how much at what rate."""
