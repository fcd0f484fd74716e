"""Queues to compare, one a file: each is the same work, which does nothing, done the way that its makers recommend."""
