"""The built wheel, installed and used. Run by `make wheel-test`, not by `make test`."""
