"""Rush control: how fast a member, an address and a partner's app may claim, and who may not at all."""
