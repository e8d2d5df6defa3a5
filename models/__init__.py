"""What is trained: networks, data sets, training and evaluation. One folder a system."""
