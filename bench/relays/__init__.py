"""The relays the gateway is measured beside, written as the usual tutorials have them."""
