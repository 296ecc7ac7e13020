"""What is told to people, and the line of events for those who tell it elsewhere."""
