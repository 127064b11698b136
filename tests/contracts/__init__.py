"""Contract suites: each runs over a fake and over the real thing, or over two real things."""
