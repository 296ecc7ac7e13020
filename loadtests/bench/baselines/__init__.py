"""What people would use instead, each as a good engineer would write it: short, and without a known slowness."""
