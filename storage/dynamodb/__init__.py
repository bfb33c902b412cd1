"""The shared backend: two DynamoDB tables that many short-lived processes use at once.

The table of an owner's data holds what `storage.repositories.Store.of` reaches. The table at the door
holds what a connect needs before anybody is known: connections, tickets and the issuers' keys.
"""
