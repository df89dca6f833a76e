"""Who fills the holes of held-out files: the server's completion and, in the same holes, the peers."""
