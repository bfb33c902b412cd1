"""What a tenant's users may do: tiers and their limits."""
