"""What operators see of the service from outside: log lines, request ids, metrics."""
