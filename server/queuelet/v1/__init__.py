"""The wire's own types, generated from `queue.proto` by `make generate`."""
