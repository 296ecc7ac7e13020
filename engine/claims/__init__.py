"""Claims: a ticket is shown, the store decides in a batch, a receipt proves it."""
