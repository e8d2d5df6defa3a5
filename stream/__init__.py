"""What runs live: pipelines, nodes and the processes that they run in. Never imports torch."""
