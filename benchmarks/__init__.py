"""Speed, measured beside others: `make bench` writes RESULTS.md."""
