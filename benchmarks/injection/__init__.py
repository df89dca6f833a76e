"""What `review_recall.py` is made of: operators, the draw of mutants, the peers."""
