"""Camera frames, keypoints and skeletons: the second kind of stream."""
