"""What a user may do: ``tier`` has the limits of a plan, ``allowance`` how much at what rate.

Both come from the settings, as the characters do, so they are the same for every tenant of a deployment.
"""
