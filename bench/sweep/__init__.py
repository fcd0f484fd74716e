"""What a sweep takes, beside the same work by hand."""
