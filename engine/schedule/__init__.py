"""What is done at a stated time, once, by whichever worker is there."""
