"""What the page shows of each stream: one module for each family of panels."""
