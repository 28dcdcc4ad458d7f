"""What a worker process does. The service imports nothing of it."""
