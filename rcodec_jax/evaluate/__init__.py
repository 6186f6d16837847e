"""Rate-distortion runs over folders of pictures, peers on the same pictures, and their report."""
