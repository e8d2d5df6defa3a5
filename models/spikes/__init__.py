"""Models of spike trains: what all networks share, from data and training to evaluation."""
