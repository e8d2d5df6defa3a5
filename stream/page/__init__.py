"""The page on which somebody watches a run in a browser, and metrics for Prometheus."""
