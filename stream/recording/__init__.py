"""Recording what a session analysed, and giving it back so exactly that the estimates come out the same."""
