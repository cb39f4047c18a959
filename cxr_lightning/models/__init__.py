"""Networks: a backbone, a pooling, a head, and what loads, freezes and groups their parameters."""
