"""Lambda behind an API Gateway WebSocket API: entry points, and what leaves through @connections."""
