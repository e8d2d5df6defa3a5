"""Piano music from a silent top view of the keyboard (after Audeo, Su, Liu and Shlizerman)."""
