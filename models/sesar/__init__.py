"""Action recognition from skeletons, live and with few labels (after SESAR, Predict & Cluster)."""
