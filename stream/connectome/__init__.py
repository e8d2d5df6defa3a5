"""Live functional connectivity: running statistics, estimators of graphs, the node `connectome`."""
